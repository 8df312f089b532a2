# SPDX-License-Identifier: LGPL-2.1-or-later
# shellcheck shell=bash
# The kernel's own tests of KVM, those that SVM in an emulator can run, with the patched and the stock modules:
# the results must be the same. Sourced by run.sh.

SELFTESTS="cpuid_test cr4_cpuid_sync_test debug_regs emulator_error_test fix_hypercall_test get_msr_index_features
    hyperv_clock hyperv_cpuid hyperv_features hyperv_svm_test kvm_clock_test kvm_pv_test max_vcpuid_cap_test
    nested_exceptions_test platform_info_test set_boot_cpu_id set_sregs_test smm_test state_test svm_int_ctl_test
    svm_nested_shutdown_test svm_nested_soft_inject_test svm_vmcall_test sync_regs_test triple_fault_event_test
    tsc_msrs_test userspace_io_test userspace_msr_exit_test xapic_state_test xen_vmcall_test xss_msr_test
    kvm_binary_stats_test kvm_create_max_vcpus set_memory_region_test system_counter_offset_test"
# Of virtual time; the emulator does with these what it can.
SELFTEST_SECONDS=20

selftests_build() {
    local out=$cache/selftests dir=$cache/selftests/linux-source-6.1 test source object
    [ "$(cat "$out/done" 2> /dev/null)" != "$SELFTESTS" ] || return 0
    mkdir -p "$out/bin"
    tar -xf /usr/src/linux-source-6.1.tar.xz -C "$out" linux-source-6.1/tools/{include,arch/x86/include,lib/rbtree.c} \
        linux-source-6.1/tools/testing/selftests/{kvm,rseq,kselftest.h,kselftest_harness.h} || return 1
    cd "$dir/tools/testing/selftests/kvm" || return 1
    compile() {
        ${CC:-gcc-12} -w -O1 -std=gnu99 -fno-stack-protector -fno-PIE -no-pie -I../../../include \
            -I../../../arch/x86/include -Iinclude -Ilib -Ilib/x86_64 -Iinclude/x86_64 -I../rseq -I.. "$@"
    }
    for source in lib/{assert,elf,guest_modes,io,kvm_util,perf_test_util,rbtree,sparsebit,test_util}.c \
        lib/x86_64/{apic,perf_test_util,processor,svm,ucall,vmx}.c lib/x86_64/handlers.S; do
        object=$out/$(echo "$source" | tr / -).o
        compile -c "$source" -o "$object" || return 1
    done
    compile -ffreestanding -c lib/string_override.c -o "$out/lib-string.o" || return 1
    for test in $SELFTESTS; do
        source=x86_64/$test.c
        [ -e "$source" ] || source=$test.c
        compile -static -s "$source" "$out"/lib-*.o -lpthread -o "$out/bin/$test" || return 1
    done
    cd - > /dev/null || return 1
    echo "$SELFTESTS" > "$out/done"
}

# selftests_run NAME KVM KVM-AMD: leaves $work/NAME.results, a line a test.
selftests_run() {
    local name=$1 test files=()
    for test in $SELFTESTS; do
        files+=("$cache/selftests/bin/$test=bin/$test")
    done
    initrd "$name" "${list%$'\n'kvm_hvfeat}" "${base[@]}" "$2=lib/modules/kvm.ko" "$3=lib/modules/kvm-amd.ko" \
        "${files[@]}" << X
for test in $(echo $SELFTESTS); do
    timeout $SELFTEST_SECONDS /bin/\$test > /tmp/out 2>&1
    case \$? in
    0) echo "= \$test passes" ;;
    4) echo "= \$test skips" ;;
    *) echo "= \$test fails: \$(grep -m1 -A1 -E 'Assert|ASSERT' /tmp/out | tr '\n' ' ' | sed 's/pid=[0-9]* tid=[0-9]*//')" ;;
    esac
done
echo 1..0
X
    boot "$name" "${SELFTESTS_LIMIT:-300}"
    tr -d '\r' < "$work/$name.log" | sed -n 's/^= //p' > "$work/$name.results"
}

check "the kernel's tests of KVM build" selftests_build || { finish; exit 1; }
selftests_run selftests-stock "$stock/arch/x86/kvm/kvm.ko" "$stock/arch/x86/kvm/kvm-amd.ko"
selftests_run selftests-patched "$cache/kvm.ko" "$cache/kvm-amd.ko"
sed 's/^/# stock: /' "$work/selftests-stock.results"
sed 's/^/# patched: /' "$work/selftests-patched.results"
all_ran() {
    [ "$(wc -l < "$work/selftests-patched.results")" = "$(wc -w <<< "$SELFTESTS")" ]
}
check "all of the kernel's tests ran" all_ran
check "their results are the same with the patches as without" \
    diff "$work/selftests-stock.results" "$work/selftests-patched.results"
check "and most pass ($(grep -c passes "$work/selftests-patched.results"))" \
    test "$(grep -c passes "$work/selftests-patched.results")" -ge 20
