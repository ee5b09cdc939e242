// SPDX-License-Identifier: MIT
//
// One guest, one mediator: all functions of the `vgpu` program inside a VM.
#include <nlohmann/json.hpp>

#include "vm/fixture.h"

namespace vgpu::test {
namespace {

using nlohmann::json;
using testing::HasSubstr;
using testing::MatchesRegex;
using testing::Not;

class OneVm : public VmTest {};

TEST_F(OneVm, ComputesThroughItsDevice) {
    ASSERT_NO_FATAL_FAILURE(start_mediator());
    const auto vm = boot({stub("pool_id=B,priority=high,vm_id=42")});
    ASSERT_NE(vm, nullptr);

    const std::string info = expect_status(*vm, 0, "vgpu info");
    EXPECT_THAT(info, HasSubstr("(1af4:1111)"));
    EXPECT_THAT(info, HasSubstr("pool            B\n"));
    EXPECT_THAT(info, HasSubstr("priority        high\n"));
    EXPECT_THAT(info, HasSubstr("VM id           42\n"));
    EXPECT_THAT(info, HasSubstr("backend         cpu\n"));
    const json document = json::parse(expect_status(*vm, 0, "vgpu info --json"));
    EXPECT_EQ(document["ok"], true);
    EXPECT_EQ(document["device"]["pool"], "B");
    EXPECT_EQ(document["device"]["priority"], "high");
    EXPECT_EQ(document["device"]["vm_id"], 42);
    EXPECT_EQ(document["device"]["protocol"], "1.0");
    EXPECT_EQ(document["device"]["capabilities"],
              json({"basic-request", "interrupt", "dma", "multi-request"}));
    EXPECT_EQ(document["gpu"]["backend"], "cpu");
    EXPECT_NE(document["gpu"]["name"], "");

    EXPECT_THAT(expect_status(*vm, 0, "vgpu add 100 200"),
                MatchesRegex("100 \\+ 200 = 300\nround trip .*"));
    for (const char* wait : {"auto", "poll", "interrupt"}) {
        const json sum =
            json::parse(expect_status(*vm, 0, std::string("vgpu add 1 2 --json --wait ") + wait));
        EXPECT_EQ(sum["sum"], 3) << wait;
        EXPECT_GT(sum["round_trip_us"], 0.0);
    }
    EXPECT_THAT(expect_status(*vm, 0, "vgpu add -5 3"), HasSubstr("-5 + 3 = -2\n"));
    EXPECT_THAT(expect_status(*vm, 0, "vgpu add 4294967295 2"), HasSubstr("= 1 (modulo 2^32)\n"));
    EXPECT_THAT(expect_status(*vm, 0, "vgpu list"), MatchesRegex("0000:00:0..0  uio0\n?"));
}

TEST_F(OneVm, PassesItsSelfTest) {
    ASSERT_NO_FATAL_FAILURE(start_mediator());
    const auto vm = boot({stub("vm_id=1")});
    ASSERT_NE(vm, nullptr);
    const json report = json::parse(expect_status(*vm, 0, "vgpu selftest --json"));
    EXPECT_EQ(report["ok"], true);
    EXPECT_EQ(report["failed"], 0);
    EXPECT_EQ(report["skipped"], 0);
    std::map<std::string, int> groups;
    for (const auto& check : report["checks"]) {
        ++groups[check["group"]];
        EXPECT_EQ(check["result"], "PASS") << check;
    }
    EXPECT_EQ(groups.size(), 6u);
    EXPECT_THAT(expect_status(*vm, 0, "vgpu selftest --only doorbell"),
                Not(HasSubstr("registers")));

    // Without uio_pci_generic: reported, and everything else still works.
    expect_status(*vm, 0,
                  "basename /sys/bus/pci/drivers/uio_pci_generic/0000:* > "
                  "/sys/bus/pci/drivers/uio_pci_generic/unbind");
    const std::string polled = expect_status(*vm, 0, "vgpu selftest");
    EXPECT_THAT(polled, HasSubstr("SKIPPED"));
    EXPECT_THAT(polled, HasSubstr("load uio_pci_generic"));
    EXPECT_THAT(polled, HasSubstr(" 0 failed, 1 skipped"));
    EXPECT_THAT(expect_status(*vm, 1, "vgpu add 1 2 --wait interrupt"),
                HasSubstr("load uio_pci_generic"));
    EXPECT_THAT(expect_status(*vm, 0, "vgpu add 1 2"), HasSubstr("1 + 2 = 3"));
}

TEST_F(OneVm, ComputesOnGpuMemory) {
    ASSERT_NO_FATAL_FAILURE(start_mediator());
    const auto vm = boot({stub("vm_id=1")});
    ASSERT_NE(vm, nullptr);
    const json report = json::parse(expect_status(*vm, 0, "vgpu selftest --only gpu --json"));
    EXPECT_EQ(report["ok"], true);
    EXPECT_GT(report["passed"], 10);
    EXPECT_EQ(report["failed"], 0);
    EXPECT_EQ(report["skipped"], 0);
    for (const auto& check : report["checks"]) {
        EXPECT_EQ(check["group"], "gpu");
        EXPECT_EQ(check["result"], "PASS") << check;
    }
    EXPECT_THAT(expect_status(*vm, 0, "vgpu selftest --gpu"), HasSubstr("gpu        "));
}

TEST_F(OneVm, MeasuresItself) {
    ASSERT_NO_FATAL_FAILURE(start_mediator());
    const auto vm = boot({stub("vm_id=1")});
    ASSERT_NE(vm, nullptr);
    const json report = json::parse(expect_status(*vm, 0, "vgpu bench -n 100 --json"));
    ASSERT_EQ(report["lines"].size(), 10u)
        << "NOP and add, by polling and by interrupt, and through a queue, there also in flight";
    for (const auto& line : report["lines"]) {
        EXPECT_GT(line["per_second"], 0.0);
        if (line["in_flight"] != 1) {
            EXPECT_EQ(line["n"], 6400);
            continue;
        }
        EXPECT_EQ(line["n"], 100);
        EXPECT_GT(line["min_us"], 0.0);
        EXPECT_LE(line["min_us"], line["p50_us"]);
        EXPECT_LE(line["p50_us"], line["p99_us"]);
        EXPECT_LE(line["p99_us"], line["max_us"]);
    }
    EXPECT_THAT(expect_status(*vm, 0, "vgpu bench -n 10 --op nop --wait poll"),
                AllOf(HasSubstr("nop         poll      registers"),
                      HasSubstr("nop         poll      queue"), Not(HasSubstr("add"))));
}

TEST_F(OneVm, TellsWhatIsWrong) {
    ASSERT_NO_FATAL_FAILURE(start_mediator());
    const auto vm = boot({stub("vm_id=1")});
    ASSERT_NE(vm, nullptr);
    // Wrong usage.
    for (const char* arguments :
         {"", "bogus", "add", "add 1", "add 1 2 3", "add x 2", "add 1 2.5", "add 4294967296 1",
          "add 1 -2147483649", "add 1 ''", "info --wait never", "bench -n 0", "bench -n many",
          "selftest --only nothing", "info --timeout -1"}) {
        EXPECT_NE(expect_status(*vm, 2, std::string("vgpu ") + arguments), "") << arguments;
    }
    EXPECT_THAT(expect_status(*vm, 2, "vgpu add 4294967296 1"),
                HasSubstr("'4294967296' is not a 32-bit integer"));
    for (const char* command : {"", "list", "info", "add", "selftest", "bench", "stress"}) {
        EXPECT_THAT(expect_status(*vm, 0, std::string("vgpu ") + command + " --help"),
                    HasSubstr("Usage:"));
    }
    EXPECT_THAT(expect_status(*vm, 0, "vgpu --version"), MatchesRegex("vgpu [0-9.]+\n?"));
    // A wrong device address.
    EXPECT_THAT(expect_status(*vm, 1, "vgpu add 1 2 --device 00:1f.0"), HasSubstr("has one at"));
    // A user without permission.
    const std::string nobody = expect_status(*vm, 1, "su nobody -c 'vgpu add 1 2'");
    EXPECT_THAT(nobody, HasSubstr("no permission on"));
    EXPECT_THAT(nobody, HasSubstr("run as root"));
    const json refused = json::parse(expect_status(*vm, 1, "su nobody -c 'vgpu info --json'"));
    EXPECT_EQ(refused["ok"], false);
    EXPECT_EQ(refused["error"]["code"], "no-permission");
    // The same user with access granted by root.
    expect_status(*vm, 0,
                  "chown nobody /sys/bus/pci/devices/$(vgpu list | cut -d ' ' -f 1)/resource0");
    EXPECT_THAT(expect_status(*vm, 0, "su nobody -c 'vgpu add 1 2'"), HasSubstr("1 + 2 = 3"));
    EXPECT_THAT(expect_status(*vm, 1, "su nobody -c 'vgpu add 1 2 --wait interrupt'"),
                HasSubstr("no permission on /dev/uio0"));
}

TEST_F(OneVm, SharesItsDeviceOneProcessAtATime) {
    ASSERT_NO_FATAL_FAILURE(start_mediator());
    const auto vm = boot({stub("vm_id=1")});
    ASSERT_NE(vm, nullptr);
    expect_status(*vm, 0, store_address());
    expect_status(*vm, 0, "vgpu add 1 1");
    // The mediator is stopped, so the first process reliably keeps the device busy.
    mediator().signal(SIGSTOP);
    const std::string second = expect_status(
        *vm, 1,
        "vgpu add 100 1 > /tmp/first 2>&1 & first=$!; " + until_busy() +
            "vgpu add 3 4; status=$?; echo \"first was $first\"; kill -9 $first; exit $status");
    EXPECT_THAT(second, HasSubstr("is in use by process "));
    const std::string pid = second.substr(second.find("first was ") + 10);
    EXPECT_THAT(second, HasSubstr("process " + pid.substr(0, pid.find('\n')) + " (vgpu)"));
    // The first was killed with its request in flight: its reply must not go to the next request.
    vm->start("vgpu add 20 2; vgpu add 30 3");
    mediator().signal(SIGCONT);
    const auto after = vm->finish();
    EXPECT_EQ(after.status, 0) << after.output;
    EXPECT_THAT(after.output, HasSubstr("20 + 2 = 22"));
    EXPECT_THAT(after.output, HasSubstr("30 + 3 = 33"));
}

TEST_F(OneVm, GivesUpInTimeAndGoesOn) {
    ASSERT_NO_FATAL_FAILURE(start_mediator());
    const auto vm = boot({stub("vm_id=1,timeout-ms=1500")});
    ASSERT_NE(vm, nullptr);
    expect_status(*vm, 0, "vgpu add 1 1");
    mediator().signal(SIGSTOP);
    // The library's time-out first, then the device's.
    const json waited = json::parse(expect_status(*vm, 1, "vgpu add 5 5 --json --timeout 0.1"));
    EXPECT_EQ(waited["error"]["code"], "wait-timeout");
    const json late = json::parse(expect_status(
        *vm, 1, "vgpu add 6 6 --json --timeout 0.05 > /dev/null; vgpu add 7 7 --json"));
    EXPECT_EQ(late["error"]["code"], "timeout");
    EXPECT_EQ(late["error"]["number"], 4);
    mediator().signal(SIGCONT);
    const std::string after = expect_status(*vm, 0, "vgpu add 8 8 && vgpu add 9 9");
    EXPECT_THAT(after, HasSubstr("8 + 8 = 16"));
    EXPECT_THAT(after, HasSubstr("9 + 9 = 18"));
}

TEST_F(OneVm, WithoutTheDeviceKeepsWorking) {
    const auto vm = boot({});
    ASSERT_NE(vm, nullptr);
    for (const char* command : {"list", "info", "add 1 2", "selftest", "bench", "stress"}) {
        EXPECT_THAT(expect_status(*vm, 1, std::string("vgpu ") + command),
                    HasSubstr("-device vgpu-stub"));
    }
    const json none = json::parse(expect_status(*vm, 1, "vgpu list --json"));
    EXPECT_EQ(none["devices"], json::array());
    EXPECT_THAT(expect_status(*vm, 0, "echo still here"), HasSubstr("still here"));
}

TEST_F(OneVm, CanHaveSeveralDevices) {
    ASSERT_NO_FATAL_FAILURE(start_mediator());
    const auto vm = boot({stub("vm_id=1,pool_id=A,addr=5"), stub("vm_id=2,pool_id=Z,addr=6")});
    ASSERT_NE(vm, nullptr);
    EXPECT_EQ(json::parse(expect_status(*vm, 0, "vgpu list --json"))["devices"].size(), 2u);
    EXPECT_THAT(expect_status(*vm, 0, "vgpu add 1 2"), HasSubstr("1 + 2 = 3")) << "the first";
    // The mediator serves no pool Z.
    const json refused = json::parse(expect_status(*vm, 1, "vgpu add 1 2 --json --device 00:06.0"));
    EXPECT_EQ(refused["error"]["code"], "invalid-pool");
    EXPECT_EQ(refused["error"]["number"], 6);
}

}  // namespace
}  // namespace vgpu::test
