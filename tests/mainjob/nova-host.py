#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a host's nova-compute does with libvirt: nova's own LibvirtDriver at colo:///system.

    nova-host.py HOST IMAGES DATABASE TLS-PORT

The rest of nova is stood in for: Glance by the folder IMAGES, the record of the instance by the JSON
file DATABASE, which all hosts share; Neutron has one port, on br0. A line on standard input is a step,
"STEP [ARGUMENT]"; its answer is a line on standard output, "ok ANSWER" or "error TYPE: TEXT".
The driver's log goes to standard error.
"""
import json
import os
import shutil
import sys
import traceback

import nova.monkey_patch  # noqa: F401  first, as in nova-compute
import os_vif
from nova import config, context, objects
from nova.compute import power_state
from nova.image import glance
from nova.network import model
from nova.virt import fake, hardware
from nova.virt.libvirt import config as vconfig, driver
import nova.conf
import nova.privsep
from oslo_log import log as logging
from oslo_serialization import jsonutils
from vif_plug_linux_bridge import privsep as bridge_privsep

CONF = nova.conf.CONF
HOST, IMAGES, DATABASE, TLS_PORT = sys.argv[1:5]
URI = "colo:///system"
STATE = "/var/lib/libvirt/nova"
UUID = "c0100000-0000-4000-8000-00000000a0a0"
IMAGE, KERNEL, RAMDISK = (f"c0100000-0000-4000-8000-0000000000{n}" for n in ("11", "12", "13"))
ADDRESS = "10.9.0.12"
CONFIG = f"""
[DEFAULT]
host = {HOST}
my_ip = 127.0.0.1
state_path = {STATE}
instances_path = {STATE}/instances
use_cow_images = true
vif_plugging_timeout = 0
force_raw_images = false
[libvirt]
connection_uri = {URI}
virt_type = qemu
cpu_mode = custom
cpu_models = qemu64
images_type = qcow2
inject_partition = -2
live_migration_uri = qemu+tls://%s:{TLS_PORT}/system
live_migration_inbound_addr = {HOST}
wait_soft_reboot_seconds = 60
[oslo_concurrency]
lock_path = {STATE}/lock
[workarounds]
skip_cpu_compare_at_startup = true
"""


class Images:
    """Glance: each image is a file of its identifier, what is known of it beside it."""

    def get(self, _context, image_id, **_kwargs):
        return {"id": image_id, "name": image_id, "status": "active", "disk_format": "raw",
                "container_format": "bare", "properties": {}, "min_disk": 0, "min_ram": 0}

    def download(self, _context, image_id, data=None, dest_path=None, trusted_certs=None):
        shutil.copyfile(os.path.join(IMAGES, image_id), dest_path)

    def update(self, _context, image_id, metadata, data=None, purge_props=False):
        if data is not None:
            with open(os.path.join(IMAGES, image_id), "wb") as file:
                shutil.copyfileobj(data, file)
        with open(os.path.join(IMAGES, image_id + ".json"), "w", encoding="utf-8") as file:
            json.dump(metadata, file, default=str)


class Network:
    """Neutron: ports are bound without its extended workflow."""

    def has_port_binding_extension(self, _context):
        return False


def network_info():
    return model.NetworkInfo([model.VIF(
        id="c0100000-0000-4000-8000-000000000021", address="52:54:00:77:00:21", type="bridge",
        devname="tapnova0", details={}, active=True, vnic_type="normal",
        network=model.Network(id="c0100000-0000-4000-8000-000000000022", bridge="br0", label="lab", subnets=[]))])


def image_meta():
    return objects.ImageMeta.from_dict({
        "id": IMAGE, "disk_format": "raw", "container_format": "bare", "min_disk": 0, "min_ram": 0, "size": 0,
        "properties": {"hw_machine_type": "pc-i440fx-7.2", "hw_video_model": "vga",
                       "os_command_line": f"console=ttyS0 quiet panic=-1 gip={ADDRESS} disk=5"}})


def new_instance(ctx):
    flavor = objects.Flavor(id=1, name="small", flavorid="1", memory_mb=128, vcpus=1, root_gb=1, ephemeral_gb=0,
                            swap=0, rxtx_factor=1.0, vcpu_weight=1, disabled=False, is_public=True, extra_specs={},
                            projects=[], description=None)
    instance = objects.Instance(
        ctx, id=1, uuid=UUID, project_id="project", user_id="user", display_name="web", hostname="web",
        image_ref=IMAGE, kernel_id=KERNEL, ramdisk_id=RAMDISK, memory_mb=128, vcpus=1, root_gb=1, ephemeral_gb=0,
        instance_type_id=1, os_type=None, vm_mode=None, architecture="x86_64", config_drive="", key_name=None,
        key_data=None, numa_topology=None, pci_requests=objects.InstancePCIRequests(requests=[]),
        pci_devices=objects.PciDeviceList(objects=[]), vcpu_model=None, resources=None, device_metadata=None,
        host=HOST, node=HOST, task_state=None, vm_state="building", power_state=power_state.NOSTATE, progress=0,
        root_device_name="/dev/vda", default_ephemeral_device=None, default_swap_device=None, ephemeral_key_uuid=None,
        metadata={}, system_metadata={}, flavor=flavor, old_flavor=None, new_flavor=None, migration_context=None,
        trusted_certs=None, auto_disk_config=False, cleaned=False, deleted=False, launched_at=None,
        availability_zone=None, locked=False, shutdown_terminate=False, launch_index=0, reservation_id="r-1")
    for name, value in image_meta().properties.obj_to_primitive()["nova_object.data"].items():
        instance.system_metadata["image_" + name] = value
    instance.info_cache = objects.InstanceInfoCache(ctx, instance_uuid=UUID, network_info=network_info())
    instance.system_metadata["image_disk_format"] = "raw"
    instance.system_metadata["image_container_format"] = "bare"
    return instance


def save(instance, **_kwargs):
    """The instance's row in nova's database, which all hosts see."""
    with open(DATABASE, "w", encoding="utf-8") as file:
        json.dump(jsonutils.to_primitive(instance.obj_to_primitive()), file)
    instance.obj_reset_changes(recursive=True)


def load(ctx):
    with open(DATABASE, encoding="utf-8") as file:
        instance = objects.Instance.obj_from_primitive(json.load(file), ctx)
    instance._context = ctx
    return instance


class Compute:
    """The steps, each in the order of calls in which nova's ComputeManager makes it."""

    def __init__(self):
        self.ctx = context.RequestContext("user", "project", is_admin=True, auth_token="none")
        self.driver = driver.LibvirtDriver(fake.FakeVirtAPI())
        self.driver._image_api = Images()
        self.driver._network_api = Network()
        self.driver.init_host(HOST)

    def uri(self):
        return self.driver._host.get_connection().getURI()

    def resources(self):
        found = self.driver.get_available_resource(HOST)
        return f"{found['hypervisor_type']} {found['hypervisor_hostname']} {found['vcpus']}"

    def instances(self):
        return " ".join(sorted(self.driver.list_instance_uuids()))

    def power(self):
        """What nova-compute's periodic comparison of power states sees."""
        return power_state.STATE_MAP[self.driver.get_info(load(self.ctx)).state]

    def spawn(self):
        instance = new_instance(self.ctx)
        instance.save()
        self.driver.spawn(self.ctx, instance, image_meta(), [], None, {}, network_info())
        self.reached(instance, "active")

    def console(self):
        text = self.driver.get_console_output(self.ctx, load(self.ctx))
        return json.dumps(text.decode(errors="replace"))

    def start(self):
        """What starts an instance again, without the undefine and define before it."""
        self.driver._host.get_guest(load(self.ctx)).launch()

    def plug(self, path):
        """A disk, as when a volume is attached."""
        disk = vconfig.LibvirtConfigGuestDisk()
        disk.source_type, disk.source_path, disk.driver_format = "file", path, "raw"
        disk.target_dev, disk.target_bus = "vdz", "virtio"
        self.driver._host.get_guest(load(self.ctx)).attach_device(disk, live=True)

    def pause(self):
        self.driver.pause(load(self.ctx))

    def unpause(self):
        self.driver.unpause(load(self.ctx))

    def moved(self):
        """The record says that the instance is here: the step of the operator after a failover."""
        instance = load(self.ctx)
        instance.host = instance.node = HOST
        self.reached(instance, "active")

    def suspend(self):
        self.driver.suspend(self.ctx, load(self.ctx))

    def resume(self):
        self.driver.resume(self.ctx, load(self.ctx), network_info())

    def snapshot(self, image_id):
        self.driver.snapshot(self.ctx, load(self.ctx), image_id, lambda **_kwargs: None)

    def reboot(self, how):
        self.driver.reboot(self.ctx, load(self.ctx), network_info(), how)

    def power_off(self):
        self.driver.power_off(load(self.ctx), timeout=0)

    def power_on(self):
        self.driver.power_on(self.ctx, load(self.ctx), network_info())

    def destroy(self):
        self.driver.destroy(self.ctx, load(self.ctx), network_info())

    # Live migration: each of these is at one host, the data goes between them as by nova's RPC.

    def check_destination(self):
        mine = self.driver.get_available_resource(HOST)
        instance = load(self.ctx)
        data = self.driver.check_can_live_migrate_destination(
            self.ctx, instance, mine, mine, block_migration=True, disk_over_commit=False)
        return self.packed(data)

    def check_source(self, data):
        data = self.unpacked(data)
        data.is_volume_backed = False
        return self.packed(self.driver.check_can_live_migrate_source(self.ctx, load(self.ctx), data, {}))

    def check_done(self, data):
        self.driver.cleanup_live_migration_destination_check(self.ctx, self.unpacked(data))

    def disks(self):
        return self.driver.get_instance_disk_info(load(self.ctx))

    def pre_migration(self, argument):
        data, disks = argument.split(" ", 1)
        return self.packed(self.driver.pre_live_migration(
            self.ctx, load(self.ctx), {}, network_info(), disks, self.unpacked(data)))

    def migrate(self, argument):
        data, dest = argument.split(" ", 1)
        data = self.unpacked(data)
        data.migration = objects.Migration(self.ctx, id=1, uuid=UUID, status="running")
        ended = []
        self.driver.live_migration(self.ctx, load(self.ctx), dest, lambda *_a, **_k: ended.append("completed"),
                                   lambda *_a, **_k: ended.append("rolled back"), True, data)
        if ended != ["completed"]:
            raise RuntimeError(f"the migration ended as {ended}")
        instance = load(self.ctx)
        self.driver.post_live_migration(self.ctx, instance, {}, data)
        self.driver.post_live_migration_at_source(self.ctx, instance, network_info())
        self.driver.cleanup(self.ctx, instance, network_info(), {}, destroy_disks=True, migrate_data=data,
                            destroy_vifs=False)

    def post_migration(self):
        self.driver.post_live_migration_at_destination(self.ctx, load(self.ctx), network_info(), True)
        self.moved()

    def reached(self, instance, vm_state):
        instance.vm_state = vm_state
        instance.power_state = self.driver.get_info(instance).state
        instance.save()

    @staticmethod
    def packed(data):
        return json.dumps(jsonutils.to_primitive(data.obj_to_primitive()), separators=(",", ":")).replace(" ", "\\u0020")

    def unpacked(self, text):
        return objects.LibvirtLiveMigrateData.obj_from_primitive(json.loads(text), self.ctx)


def configure():
    os.makedirs(STATE + "/instances", exist_ok=True)
    os.makedirs(STATE + "/lock", exist_ok=True)
    with open(STATE + "/nova.conf", "w", encoding="utf-8") as file:
        file.write(CONFIG)
    config.parse_args(["nova-compute", "--config-file", STATE + "/nova.conf"])
    nova.conf.neutron.register_dynamic_opts(CONF)
    logging.setup(CONF, "nova")
    objects.register_all()
    objects.Instance.save = save
    # The rest of nova's database: this host is an enabled service, there are no volumes.
    objects.InstanceList.get_by_filters = lambda *_args, **_kwargs: objects.InstanceList(objects=[])
    objects.VirtualInterfaceList.get_by_instance_uuid = (
        lambda *_args, **_kwargs: objects.VirtualInterfaceList(objects=[]))
    objects.BlockDeviceMappingList.bdms_by_instance_uuid = lambda *_args, **_kwargs: {}
    objects.BlockDeviceMappingList.get_by_instance_uuid = (
        lambda *_args, **_kwargs: objects.BlockDeviceMappingList(objects=[]))
    objects.Service.get_by_compute_host = (
        lambda ctx, host: objects.Service(
            ctx, id=1, host=host, disabled=False, disabled_reason=None, compute_node=objects.ComputeNode(uuid=UUID)))
    objects.Migration.save = lambda *_args: None
    driver.LibvirtDriver._register_all_undefined_instance_details = lambda _self: None  # asks nova's database
    glance.API = Images
    nova.virt.images.IMAGE_API = Images()
    # As root, in this process: nova-compute starts helpers by sudo.
    nova.privsep.sys_admin_pctxt.set_client_mode(False)
    bridge_privsep.vif_plug.set_client_mode(False)
    os_vif.initialize()


def main():
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what nova prints is log
    configure()
    compute = Compute()
    answers.write("ok ready\n")
    for line in iter(sys.stdin.readline, ""):
        step, _, argument = line.rstrip("\n").partition(" ")
        try:
            answer = getattr(compute, step)(*[argument] if argument else [])
            answers.write(f"ok {answer if answer is not None else ''}".rstrip() + "\n")
        except Exception as error:  # noqa: BLE001  whatever nova raised is the answer
            traceback.print_exc()
            answers.write(f"error {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}\n")


if __name__ == "__main__":
    main()
