/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Sources of the verdicts: migration blockers and vmstate "unmigratable" marks of QEMU 7.2 (named
 * beside the row), libvirt 9.0's device list (domaincommon.rng), and what was shown to work under
 * COLO. A row says what this project has, not what could be done.
 */
#include "domain/xml-eligibility-table.h"

#define SUPPORTED(section, element, when)                                   \
    {                                                                       \
        section, element, when, COLO_ROW_SUPPORTED, NULL, NULL, NULL, FALSE \
    }
#define HANDLED(section, element, when, found)                             \
    {                                                                      \
        section, element, when, COLO_ROW_HANDLED, found, NULL, NULL, FALSE \
    }
#define NOTE(section, element, when, found, show, remedy)                 \
    {                                                                     \
        section, element, when, COLO_ROW_NOTE, found, show, remedy, FALSE \
    }
#define REFUSED(section, element, when, found, show, remedy)                 \
    {                                                                        \
        section, element, when, COLO_ROW_REFUSED, found, show, remedy, FALSE \
    }

#define DETACH "remove it: virsh detach-device, or from the definition and start again"
#define IOTHREAD "remove the iothread attribute and start the domain again"
#define X86_ONLY "only x86 guests can be protected"

/* Back-ends of serial ports, consoles and channels. What they write is not held back, so nothing
 * that speaks to a third party of its own accord is accepted. */
#define CHARDEV(element)                                                                          \
    SUPPORTED("devices", element,                                                                 \
              "@type='pty' or @type='file' or @type='null' or @type='vc' or @type='spicevmc' or " \
              "@type='spiceport' or ((@type='unix' or @type='tcp') and "                          \
              "not(source/@mode='connect'))"),                                                    \
        NOTE("devices", element, "@type='tcp' and not(source/@mode='connect')",                   \
             "listens on {}: its output is not compared, and a client must connect anew after a " \
             "takeover",                                                                          \
             "concat(source[1]/@host, ':', source[1]/@service)", ""),                             \
        REFUSED("devices", element, "@type='dev'", "uses the host device {}", "source/@path",     \
                "use type='pty' or type='file'"),                                                 \
        REFUSED("devices", element,                                                               \
                "@type='udp' or ((@type='tcp' or @type='unix') and source/@mode='connect')",      \
                "connects out ({}): both copies would, and what they send is not compared",       \
                "@type", "use mode='bind', or type='pty'"),                                       \
        REFUSED("devices", element,                                                               \
                "@type='pipe' or @type='stdio' or @type='nmdm' or @type='dbus' or "               \
                "@type='qemu-vdagent'",                                                           \
                "its back-end '{}' cannot be used on two hosts", "@type",                         \
                "use type='pty', 'unix' or 'spicevmc'")

/* Arguments that would add what this table never sees. */
#define DEVICE_ARG                                                                                \
    "qemu:arg[@value='-device' or @value='--device' or @value='-netdev' or @value='--netdev' or " \
    "@value='-nic' or @value='--nic' or @value='-net' or @value='--net' or @value='-drive' or "   \
    "@value='--drive' or @value='-blockdev' or @value='--blockdev' or @value='-fsdev' or "        \
    "@value='--fsdev' or @value='-virtfs' or @value='--virtfs' or @value='-tpmdev' or "           \
    "@value='--tpmdev' or @value='-usbdevice' or @value='--usbdevice' or @value='-hda' or "       \
    "@value='-hdb' or @value='-hdc' or @value='-hdd' or @value='-cdrom' or @value='-sd' or "      \
    "@value='-pflash' or @value='-mtdblock' or @value='-fda' or @value='-fdb']"

const ColoEligibilityRow colo_eligibility_table[] = {
    /* The domain itself. */
    SUPPORTED("", "domain", "@type='kvm' or (@type='qemu' and $emulation)"),
    REFUSED("", "domain", "@type='qemu' and not($emulation)",
            "is emulated (type='qemu'): QEMU's COLO loses memory and deadlocks without KVM", NULL,
            "use type='kvm'; for a laboratory set allow_emulation"),
    REFUSED("", "domain", "not(@type='kvm' or @type='qemu')", "is of type '{}'", "@type",
            "only QEMU/KVM domains can be protected"),
    NOTE("", "domain", "@type='qemu' and $emulation",
         "is emulated: accepted by allow_emulation, not for production", NULL, ""),

    /* What every domain has. */
    SUPPORTED("domain", "name", NULL),
    SUPPORTED("domain", "uuid", NULL),
    SUPPORTED("domain", "title", NULL),
    SUPPORTED("domain", "description", NULL),
    SUPPORTED("domain", "metadata", NULL),
    SUPPORTED("domain", "genid", NULL),
    SUPPORTED("domain", "memory", NULL),
    SUPPORTED("domain", "currentMemory", NULL),
    SUPPORTED("domain", "maxMemory", NULL),
    SUPPORTED("domain", "vcpu", NULL),
    SUPPORTED("domain", "vcpus", NULL),
    SUPPORTED("domain", "iothreads", NULL),
    SUPPORTED("domain", "iothreadids", NULL),
    SUPPORTED("domain", "defaultiothread", NULL),
    SUPPORTED("domain", "devices", NULL),
    SUPPORTED("domain", "features", NULL),
    SUPPORTED("domain", "clock", NULL),
    SUPPORTED("domain", "on_poweroff", NULL),
    SUPPORTED("domain", "on_reboot", NULL),
    SUPPORTED("domain", "on_crash", NULL),
    SUPPORTED("domain", "on_lockfailure", NULL),
    SUPPORTED("domain", "pm", NULL),
    SUPPORTED("domain", "perf", NULL),
    SUPPORTED("domain", "resource", NULL),
    SUPPORTED("domain", "seclabel", NULL),
    NOTE("domain", "seclabel", "@type='static'",
         "a static label: the same label must be usable on the peer", NULL, ""),
    SUPPORTED("domain", "sysinfo", NULL),
    NOTE("domain", "sysinfo", "entry/@file", "uses the file {}", "entry/@file",
         "put the same file on the peer"),

    /* Firmware, machine, direct boot. */
    SUPPORTED("domain", "os", "type='hvm'"),
    REFUSED("domain", "os", "not(type='hvm')", "boots '{}'", "type", "only hvm guests"),
    REFUSED("domain", "os", "type/@arch and not(type/@arch='x86_64' or type/@arch='i686')",
            "is built for {}", "type/@arch", X86_ONLY),
    REFUSED("domain", "os",
            "type/@machine and not(starts-with(type/@machine, 'pc') or type/@machine='q35')",
            "machine type {} was not shown to work", "type/@machine", "use q35 or pc"),
    REFUSED("domain", "os", "nvram or loader[@type='pflash' and not(@readonly='yes')]",
            "has a writable UEFI variable store ({}), which is not replicated yet",
            "(nvram | loader)[last()]", "use a stateless firmware or BIOS"),
    NOTE("domain", "os", "loader", "uses the firmware {}", "loader",
         "install the same firmware version on the peer"),
    NOTE("domain", "os", "kernel", "boots the kernel {} of the host", "kernel",
         "put kernel, initrd and dtb at the same paths on the peer"),
    NOTE("domain", "os", "acpi/table", "uses the ACPI table {}", "acpi/table",
         "put the same file on the peer"),
    REFUSED("domain", "bootloader", NULL, "is Xen's boot loader", NULL, "boot by firmware"),
    REFUSED("domain", "bootloader_args", NULL, "is for Xen", NULL, "boot by firmware"),

    /* CPU: migration blockers of target/i386/kvm/kvm.c (invtsc without tsc-khz, hv-passthrough). */
    SUPPORTED("domain", "cpu", NULL),
    NOTE("domain", "cpu", "@mode='host-passthrough' or @mode='maximum'",
         "mode='{}': both hosts need the same CPU model and microcode", "@mode",
         "prefer host-model or a named model"),
    REFUSED("domain", "cpu", "@migratable='off'", "migratable='off' exposes features without state",
            NULL, "set migratable='on'"),
    REFUSED("domain", "cpu",
            "feature[@name='invtsc' and (not(@policy) or @policy='require' or @policy='force')] "
            "and not(/domain/clock/timer[@name='tsc']/@frequency)",
            "the feature invtsc blocks migration", NULL,
            "disable invtsc, or fix the rate by <timer name='tsc' frequency=>"),
    REFUSED("domain", "cpu", "numa/cell/@memAccess='shared'",
            "a NUMA cell has shared memory: another process could write it unseen", NULL,
            "set memAccess='private'"),
    NOTE("domain", "cpu", "feature[(@name='vmx' or @name='svm') and @policy='require']",
         "offers {}: nested guests were not shown to survive",
         "feature[@name='vmx' or @name='svm']"
         "/@name",
         ""),
    REFUSED("domain", "launchSecurity", NULL,
            "encrypts the guest's memory ({}): checkpoints cannot read it", "@type",
            "remove launchSecurity"),
    REFUSED("domain", "keywrap", NULL, "is for s390", NULL, X86_ONLY),
    REFUSED("domain", "idmap", NULL, "is for containers", NULL, "only QEMU/KVM domains"),

    /* Memory and tuning. */
    SUPPORTED("domain", "memoryBacking", NULL),
    REFUSED("domain", "memoryBacking", "access/@mode='shared'",
            "memory is shared: another process (virtiofs, vhost-user) could write it unseen", NULL,
            "set access mode='private' and remove what needs it"),
    NOTE("domain", "memoryBacking", "hugepages",
         "huge pages: the peer needs them for the guest's RAM", NULL, ""),
    HANDLED("domain", "memtune", NULL, NULL),
    NOTE("domain", "memtune", "hard_limit",
         "the hard limit is left out of the copy, which needs twice the guest's RAM", NULL, ""),
    SUPPORTED("domain", "numatune", NULL),
    NOTE("domain", "numatune", "*/@nodeset", "pins memory to NUMA node {}", "*/@nodeset",
         "the peer needs the same nodes"),
    SUPPORTED("domain", "cputune", NULL),
    NOTE("domain", "cputune", "*/@cpuset", "pins to host CPU {}", "*/@cpuset",
         "the peer needs the same CPUs"),
    SUPPORTED("domain", "blkiotune", NULL),
    NOTE("domain", "blkiotune", "device/path", "limits the host device {}", "device/path",
         "the peer needs the same device"),

    /* Features. */
    SUPPORTED("features", "acpi", NULL),
    SUPPORTED("features", "apic", NULL),
    SUPPORTED("features", "pae", NULL),
    SUPPORTED("features", "hap", NULL),
    SUPPORTED("features", "ioapic", NULL),
    SUPPORTED("features", "kvm", NULL),
    SUPPORTED("features", "msrs", NULL),
    SUPPORTED("features", "pmu", NULL),
    SUPPORTED("features", "pvspinlock", NULL),
    SUPPORTED("features", "smm", NULL),
    SUPPORTED("features", "tcg", NULL),
    SUPPORTED("features", "vmcoreinfo", NULL),
    SUPPORTED("features", "vmport", NULL),
    SUPPORTED("features", "hyperv", NULL),
    REFUSED("features", "hyperv", "@mode='passthrough'", "mode='passthrough' blocks migration",
            NULL, "name the enlightenments (mode='custom')"),
    REFUSED("features", "xen", NULL, "Xen features have no migratable state", NULL, "remove it"),
    REFUSED("features", "viridian", NULL, "is Xen's", NULL, "use <hyperv>"),
    REFUSED("features", "privnet", NULL, "is for containers", NULL, "only QEMU/KVM domains"),
    REFUSED("features", "capabilities", NULL, "is for containers", NULL, "only QEMU/KVM domains"),
    REFUSED("features", "gic", NULL, "is for ARM", NULL, X86_ONLY),
    REFUSED("features", "hpt", NULL, "is for POWER", NULL, X86_ONLY),
    REFUSED("features", "htm", NULL, "is for POWER", NULL, X86_ONLY),
    REFUSED("features", "nested-hv", NULL, "is for POWER", NULL, X86_ONLY),
    REFUSED("features", "cfpc", NULL, "is for POWER", NULL, X86_ONLY),
    REFUSED("features", "sbbc", NULL, "is for POWER", NULL, X86_ONLY),
    REFUSED("features", "ibs", NULL, "is for POWER", NULL, X86_ONLY),
    REFUSED("features", "ccf-assist", NULL, "is for POWER", NULL, X86_ONLY),

    /* Arguments behind libvirt's back. -incoming defer is ours, after a takeover. */
    SUPPORTED("domain", "qemu:commandline", NULL),
    REFUSED("domain", "qemu:commandline",
            "qemu:arg[@value='-incoming' or @value='--incoming']"
            "[not(following-sibling::qemu:arg[1]/@value='defer')]",
            "has an -incoming of its own", NULL, "remove the argument"),
    REFUSED("domain", "qemu:commandline",
            "qemu:arg[contains(@value, 'colo-compare') or contains(@value, 'filter-') or "
            "contains(@value, 'driver=replication')]",
            "has COLO or filter objects of its own ({})",
            "qemu:arg[contains(@value, 'colo-compare') or contains(@value, 'filter-') or "
            "contains(@value, 'driver=replication')]/@value",
            "remove the arguments"),
    REFUSED("domain", "qemu:commandline", DEVICE_ARG,
            "adds a device by {}, which cannot be judged: its output might leave unconfirmed",
            DEVICE_ARG "/@value", "declare the device in libvirt's XML"),
    NOTE("domain", "qemu:commandline",
         "qemu:env or qemu:arg[not(@value='-incoming' or @value='defer')]",
         "other arguments are given to the copy unchanged", NULL,
         "files that they name must be on the peer"),
    SUPPORTED("domain", "qemu:capabilities", NULL),
    SUPPORTED("domain", "qemu:deprecation", NULL),
    SUPPORTED("domain", "qemu:override", NULL),
    NOTE("domain", "qemu:override", NULL, "properties are overridden, on the copy too", NULL, ""),

    /* Disks. */
    SUPPORTED("devices", "emulator", NULL),
    HANDLED("devices", "disk",
            "(not(@device) or @device='disk') and (@type='file' or @type='block' or "
            "@type='volume') and (driver/@type='raw' or driver/@type='qcow2') and "
            "(target/@bus='virtio' or target/@bus='scsi' or target/@bus='sata' or "
            "target/@bus='ide')",
            "replicated to a copy of its own on the peer"),
    SUPPORTED("devices", "disk",
              "@device='cdrom' and not(target/@bus='fdc' or target/@bus='xen') and "
              "(@type='file' or @type='volume' or not(source/@*))"),
    REFUSED("devices", "disk", "@type='network'",
            "is a network disk ({}): both hosts would write the same image", "source/@protocol",
            "copy it to a local file or volume (virsh blockcopy)"),
    REFUSED("devices", "disk",
            "@type='nvme' or @type='vhostuser' or @type='vhostvdpa' or @type='dir'",
            "type='{}' cannot be replicated", "@type", "use type file, block or volume"),
    REFUSED("devices", "disk", "@device='lun'", "passes a SCSI LUN through", NULL,
            "use device='disk'"),
    REFUSED("devices", "disk", "@device='floppy'", "a floppy drive is not supported", NULL, DETACH),
    REFUSED("devices", "disk", "@device='cdrom' and @type='block' and source/@dev",
            "uses the host's drive {}", "source/@dev", "eject it or use an image file"),
    REFUSED("devices", "disk", "shareable", "is shared with another domain", NULL,
            "give each domain a disk of its own"),
    REFUSED("devices", "disk", "transient", "is transient", NULL, "remove <transient/>"),
    REFUSED("devices", "disk", "mirror", "has a block job ({})", "mirror/@job",
            "finish or cancel it: virsh blockjob --pivot or --abort"),
    REFUSED("devices", "disk", "encryption or source/encryption",
            "is encrypted by QEMU ({}), which was not shown to work", ".//encryption/@format",
            "encrypt below QEMU (dm-crypt) or inside the guest"),
    REFUSED("devices", "disk", "source/slices or source/reservations",
            "uses slices or persistent reservations", NULL, "use a plain image or volume"),
    REFUSED("devices", "disk", "driver/@copy_on_read='on'", "copies on read", NULL,
            "remove copy_on_read"),
    REFUSED("devices", "disk", "driver/@iothread",
            "runs in iothread {}, which was not shown to work", "driver/@iothread", IOTHREAD),
    REFUSED("devices", "disk",
            "(not(@device) or @device='disk') and (@type='file' or @type='block' or "
            "@type='volume') and not(driver/@type='raw' or driver/@type='qcow2')",
            "has format '{}'", "driver/@type", "convert it to raw or qcow2 (qemu-img convert)"),
    REFUSED("devices", "disk",
            "(not(@device) or @device='disk') and not(target/@bus='virtio' or "
            "target/@bus='scsi' or target/@bus='sata' or target/@bus='ide')",
            "is on bus '{}', where its node cannot be replaced", "target/@bus",
            "use bus virtio, scsi or sata"),
    NOTE("devices", "disk", "@device='cdrom' and source/@*", "holds the medium {}",
         "source/@*[not(name()='index')][last()]",
         "put the same image at the same path on the peer, or eject it"),
    NOTE("devices", "disk", "(not(@device) or @device='disk') and readonly",
         "is read-only and not replicated", NULL, "put the same content on the peer"),
    NOTE("devices", "disk", "@type='volume'", "is a volume of the pool {}", "source/@pool",
         "the pool must be of storage local to each host"),
    NOTE("devices", "disk", "backingStore/source",
         "has a backing chain: the peer gets one flat copy", NULL, ""),
    NOTE("devices", "disk", "driver/@cache='unsafe'",
         "cache='unsafe' loses confirmed writes when a host loses power", NULL,
         "use none or writeback"),

    /* NICs. Their models: those whose device state migrates and that run on a tap. */
    HANDLED("devices", "interface",
            "(@type='bridge' or @type='network') and (not(model/@type) or "
            "starts-with(model/@type, 'virtio') or model/@type='e1000' or model/@type='e1000e' or "
            "model/@type='rtl8139' or model/@type='pcnet' or model/@type='ne2k_pci' or "
            "model/@type='vmxnet3' or starts-with(model/@type, 'i82'))",
            "compared, and kept off the network on the peer until a takeover"),
    REFUSED("devices", "interface", "not(@type='bridge' or @type='network')",
            "type='{}' cannot be compared", "@type",
            "use a bridge or a libvirt network of bridges"),
    {"devices", "interface",
     "/domain/@type='kvm' and starts-with(model/@type, 'virtio') and not(driver/@name='qemu')",
     COLO_ROW_REFUSED, "runs on vhost: QEMU does not see its packets", NULL,
     "set <driver name='qemu'/> (virsh colo-prepare does it) and start the domain again", TRUE},
    REFUSED("devices", "interface", "driver/@queues > 1",
            "has {} queues: QEMU's filters do not support multiqueue", "driver/@queues",
            "remove the queues attribute and start the domain again"),
    REFUSED("devices", "interface", "teaming", "is part of a team with a host device", NULL,
            "remove <teaming>"),
    REFUSED("devices", "interface",
            "model/@type and not(starts-with(model/@type, 'virtio') or model/@type='e1000' or "
            "model/@type='e1000e' or model/@type='rtl8139' or model/@type='pcnet' or "
            "model/@type='ne2k_pci' or model/@type='vmxnet3' or starts-with(model/@type, 'i82'))",
            "model '{}' does not migrate or was not shown to work", "model/@type",
            "use virtio or e1000e"),
    REFUSED("devices", "interface", "virtualport/@type and not(virtualport/@type='openvswitch')",
            "its virtual port is of type '{}'", "virtualport/@type", "use a Linux or OVS bridge"),
    NOTE("devices", "interface", "filterref", "uses the network filter {}", "filterref/@filter",
         "define the same filter on the peer"),

    /* Controllers and buses. */
    SUPPORTED("devices", "controller",
              "@type='ide' or @type='fdc' or @type='scsi' or @type='sata' or @type='usb' or "
              "@type='ccid' or @type='virtio-serial' or @type='pci' or @type='isa'"),
    REFUSED("devices", "controller", "@type='xenbus'", "is for Xen", NULL, DETACH),
    REFUSED("devices", "controller", "driver/@iothread",
            "runs in iothread {}, which was not shown to work", "driver/@iothread", IOTHREAD),
    SUPPORTED("devices", "hub", "@type='usb'"),

    /* Things of the host: what they hold or do cannot be on two hosts at once. */
    REFUSED("devices", "hostdev", NULL, "passes a {} device of the host through",
            "concat(@type, ' ', @mode)", DETACH),
    REFUSED("devices", "filesystem", NULL,
            "shares a directory of the host ({}), whose state QEMU cannot copy",
            "concat(driver/@type, ' ', target/@dir)", "remove it; use NFS inside the guest"),
    REFUSED("devices", "redirdev", NULL, "redirects USB devices of a client", NULL, DETACH),
    SUPPORTED("devices", "redirfilter", NULL),
    REFUSED("devices", "smartcard", NULL, "a smart card of the host or of a client", NULL, DETACH),
    REFUSED("devices", "tpm", NULL,
            "the state of its TPM ({}) is outside QEMU and is not replicated", "backend/@type",
            "remove the TPM from the definition"),
    REFUSED("devices", "shmem", NULL, "shares memory with other processes", NULL, DETACH),
    REFUSED("devices", "lease", NULL, "needs a lock manager with leases; ours replaces it", NULL,
            "remove the lease"),
    REFUSED("devices", "vsock", NULL, "runs on vhost: what it sends is not compared", NULL, DETACH),
    REFUSED("devices", "crypto", NULL, "virtio-crypto was not shown to work", NULL, DETACH),
    REFUSED("devices", "nvram", NULL, "is for POWER", NULL, X86_ONLY),

    /* Memory devices. COLO forbids discarding RAM on the peer, which virtio-mem needs. */
    SUPPORTED("devices", "memory", "@model='dimm'"),
    NOTE("devices", "memory", "@model='dimm'", "memory cannot be plugged while protected", NULL,
         ""),
    REFUSED("devices", "memory", "not(@model='dimm')",
            "memory of model '{}' is backed by the host or cannot be copied", "@model",
            "use ordinary RAM"),
    SUPPORTED("devices", "memballoon",
              "@model='virtio' or @model='none' or "
              "@model='virtio-transitional' or "
              "@model='virtio-non-transitional'"),
    SUPPORTED("devices", "iommu", "@model='intel' or @model='virtio'"),
    NOTE("devices", "iommu", "@model='intel' or @model='virtio'",
         "an IOMMU was not yet shown under COLO", NULL, ""),

    /* Consoles. */
    CHARDEV("serial"),
    CHARDEV("console"),
    CHARDEV("parallel"),
    CHARDEV("channel"),
    REFUSED("devices", "channel", "target/@type='guestfwd' or target/@type='xen'",
            "a channel of type '{}'", "target/@type", "use a virtio channel"),

    /* Display, sound, input. virgl: "virgl is not yet migratable" (virtio-gpu-base.c). */
    SUPPORTED("devices", "graphics", "@type='vnc' or @type='spice'"),
    REFUSED("devices", "graphics", "not(@type='vnc' or @type='spice')",
            "a display of type '{}' belongs to one host", "@type", "use vnc or spice"),
    REFUSED("devices", "graphics", "gl/@enable='yes'", "uses the host's GPU", NULL,
            "set <gl enable='no'/>"),
    NOTE("devices", "graphics",
         "listen/@address[not(.='127.0.0.1' or .='0.0.0.0' or .='::' or .='::1')]", "listens on {}",
         "listen/@address", "the peer needs this address; use 0.0.0.0 or 127.0.0.1"),
    SUPPORTED("devices", "video",
              "model/@type='vga' or model/@type='cirrus' or model/@type='bochs' or "
              "model/@type='qxl' or model/@type='virtio' or model/@type='vmvga' or "
              "model/@type='ramfb' or model/@type='none'"),
    REFUSED("devices", "video", "model/acceleration/@accel3d='yes'",
            "3D acceleration (virgl) does not migrate", NULL, "set accel3d='no'"),
    REFUSED("devices", "video", "model/@blob='on'", "blob resources do not migrate", NULL,
            "set blob='off'"),
    REFUSED("devices", "video", "driver/@name='vhostuser'", "is run by another process", NULL,
            "remove <driver name='vhostuser'/>"),
    SUPPORTED("devices", "audio", "@type='none' or @type='spice'"),
    REFUSED("devices", "audio", "not(@type='none' or @type='spice')", "plays on the host ({})",
            "@type", "use type none or spice"),
    SUPPORTED("devices", "sound",
              "@model='ich6' or @model='ich7' or @model='ich9' or @model='ac97' or "
              "@model='es1370' or @model='sb16' or @model='pcspk'"),
    REFUSED("devices", "sound", "@model='usb'", "USB audio does not migrate", NULL, "use ich9"),
    SUPPORTED("devices", "input",
              "(@type='mouse' or @type='tablet' or @type='keyboard') and not(@bus='xen')"),
    REFUSED("devices", "input", "@type='passthrough' or @type='evdev'",
            "passes an input device of the host through ({})", "source/@*", DETACH),

    /* The rest. */
    SUPPORTED("devices", "rng", "backend/@model='random' or backend/@model='builtin'"),
    REFUSED("devices", "rng", "backend/@model='egd'", "asks another process for entropy", NULL,
            "use backend model='random' with /dev/urandom"),
    SUPPORTED("devices", "watchdog", NULL),
    SUPPORTED("devices", "panic", NULL),
};

const gsize colo_eligibility_table_len = G_N_ELEMENTS(colo_eligibility_table);
