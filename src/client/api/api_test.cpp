// SPDX-License-Identifier: MIT
//
// Tests of the public API: finds and opens devices in a fake sysfs tree, and runs complete calls
// against a device in memory.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <filesystem>
#include <fstream>
#include <string>

#include "base/fd.h"
#include "client/api/device.h"
#include "client/api/raw.h"
#include "client/core/register_transport.h"
#include "client/include/vgpu.hpp"
#include "client/testing/fake_device.h"
#include "client/testing/fake_sysfs.h"

extern "C" int vgpu_header_compiles_as_c(void);

namespace vgpu::client::test {
namespace {

using testing::HasSubstr;

int open_code(const OpenOptions& options, std::string* message = nullptr) {
    const auto device = Device::open(options);
    if (device) {
        return VGPU_OK;
    }
    if (message != nullptr) {
        *message = device.failure().message;
    }
    return device.failure().code;
}

TEST(Enumerate, FindsExactlyTheDevicesThatAreOurs) {
    FakeSysfs sysfs;
    sysfs.add("0000:00:05.0");
    sysfs.add("0000:00:04.0");
    sysfs.add("0000:00:06.0", "0x8086");
    sysfs.add("0000:00:07.0", "0x1af4", "0x1110");
    sysfs.add("0000:00:08.0", "0x1af4", "0x1111", "0x050000");
    sysfs.add("0000:00:09.0", "0x1af4", "0x1111", "0x120000", "0x01");
    sysfs.add("0000:00:0a.0", "nonsense");
    std::filesystem::create_directories(sysfs.device("0000:00:0b.0"));
    std::filesystem::create_directories(sysfs.device("0000:00:05.0") + "/uio/uio3");

    const auto devices = list_devices(sysfs.options());
    ASSERT_TRUE(devices) << devices.failure().message;
    ASSERT_EQ(devices->size(), 2u);
    EXPECT_STREQ((*devices)[0].address, "0000:00:04.0");
    EXPECT_STREQ((*devices)[0].uio, "");
    EXPECT_STREQ((*devices)[1].address, "0000:00:05.0");
    EXPECT_STREQ((*devices)[1].uio, "uio3");
}

TEST(Enumerate, TellsTheCountWhateverTheCapacity) {
    FakeSysfs sysfs;
    sysfs.add("0000:00:04.0");
    sysfs.add("0000:00:05.0");
    const auto options = sysfs.options();
    const auto c_options = detail::to_c(options);
    std::array<vgpu_device_entry, 2> entries{};
    std::size_t count = 0;
    ASSERT_EQ(vgpu_enumerate(&c_options, entries.data(), 1, &count, nullptr), VGPU_OK);
    EXPECT_EQ(count, 2u);
    EXPECT_STREQ(entries[0].address, "0000:00:04.0");
    EXPECT_STREQ(entries[1].address, "") << "written beyond the capacity";
}

TEST(Open, WithoutADeviceSaysWhatToDo) {
    const FakeSysfs sysfs;
    std::string message;
    EXPECT_EQ(open_code(sysfs.options(), &message), VGPU_E_NO_DEVICE);
    EXPECT_THAT(message, HasSubstr("-device vgpu-stub"));
    OpenOptions nowhere;
    nowhere.sysfs_root = "/nonexistent";
    EXPECT_EQ(open_code(nowhere, &message), VGPU_E_SYSTEM);
    EXPECT_THAT(message, HasSubstr("/nonexistent"));
}

TEST(Open, TakesTheFirstOrTheNamedDevice) {
    FakeSysfs sysfs;
    sysfs.add("0000:00:05.0");
    sysfs.add("0000:00:04.0");
    const auto opened = [&](const std::string& address) -> std::string {
        auto device = Device::open(sysfs.options(VGPU_WAIT_AUTO, address));
        return device ? device->properties().address : device.failure().message;
    };
    EXPECT_EQ(opened(""), "0000:00:04.0");
    EXPECT_EQ(opened("0000:00:05.0"), "0000:00:05.0");
    EXPECT_EQ(opened("00:05.0"), "0000:00:05.0");
    EXPECT_THAT(opened("00:09.0"), HasSubstr("has one at 0000:00:04.0 0000:00:05.0"));
}

TEST(Open, ReadsTheProperties) {
    FakeSysfs sysfs;
    sysfs.add("0000:00:04.0");
    auto device = Device::open(sysfs.options());
    ASSERT_TRUE(device) << device.failure().message;
    const Properties properties = device->properties();
    EXPECT_EQ(properties.pool, 'C');
    EXPECT_EQ(properties.priority, std::uint32_t{VGPU_PRIORITY_LOW});
    EXPECT_EQ(properties.vm_id, 4711u);
    EXPECT_EQ(properties.protocol_version, VGPU_PROTOCOL_VERSION);
    EXPECT_EQ(properties.has_interrupt, 0);
}

TEST(Open, SwitchesTheDeviceOnOnlyWhereNobodyHas) {
    FakeSysfs sysfs;
    sysfs.add("0000:00:04.0");
    sysfs.write("0000:00:04.0", "enable", "0\n");
    EXPECT_EQ(open_code(sysfs.options()), VGPU_OK);
    const auto enabled = [&] {
        std::ifstream file(sysfs.device("0000:00:04.0") + "/enable");
        return std::string(std::istreambuf_iterator<char>(file), {});
    };
    EXPECT_EQ(enabled()[0], '1');
    sysfs.write("0000:00:04.0", "enable", "2\n");
    EXPECT_EQ(open_code(sysfs.options()), VGPU_OK);
    EXPECT_EQ(enabled(), "2\n");
}

TEST(Open, TheSecondIsToldWhoHasTheDevice) {
    FakeSysfs sysfs;
    sysfs.add("0000:00:04.0");
    {
        const auto first = Device::open(sysfs.options());
        ASSERT_TRUE(first);
        std::string message;
        EXPECT_EQ(open_code(sysfs.options(), &message), VGPU_E_IN_USE);
        EXPECT_THAT(message, HasSubstr("process " + std::to_string(::getpid()) + " ("));
    }
    EXPECT_EQ(open_code(sysfs.options()), VGPU_OK);
}

TEST(Open, WithoutPermissionSaysWhatToDo) {
    FakeSysfs sysfs;
    sysfs.add("0000:00:04.0");
    std::filesystem::permissions(sysfs.device("0000:00:04.0") + "/resource0",
                                 std::filesystem::perms::none);
    const bool is_root = ::geteuid() == 0;
    if (is_root) {
        ASSERT_EQ(::seteuid(65534), 0);
    }
    std::string message;
    const int code = open_code(sysfs.options(), &message);
    if (is_root) {
        ASSERT_EQ(::seteuid(0), 0);
    }
    EXPECT_EQ(code, VGPU_E_NO_PERMISSION);
    EXPECT_THAT(message, HasSubstr("resource0"));
    EXPECT_THAT(message, HasSubstr("run as root"));
}

// Under kernel lockdown a BAR can be opened but not mapped, like a file sealed against writing.
class LockedDown : public testing::Test {
  protected:
    void SetUp() override {
        sysfs.add("0000:00:04.0");
        ASSERT_EQ(::ftruncate(memory.get(), VGPU_BAR0_SIZE), 0);
        ASSERT_EQ(::fcntl(memory.get(), F_ADD_SEALS, F_SEAL_WRITE), 0);
        const std::string bar = sysfs.device("0000:00:04.0") + "/resource0";
        std::filesystem::remove(bar);
        std::filesystem::create_symlink("/proc/self/fd/" + std::to_string(memory.get()), bar);
    }
    std::string message_with(const std::string& lockdown) {
        const std::filesystem::path folder = sysfs.bus() / "../../../kernel/security";
        std::filesystem::create_directories(folder);
        std::ofstream(folder / "lockdown") << lockdown << '\n';
        std::string message;
        EXPECT_EQ(open_code(sysfs.options(), &message), VGPU_E_NO_PERMISSION);
        return message;
    }

    FakeSysfs sysfs;
    Fd memory{::memfd_create("bar", MFD_CLOEXEC | MFD_ALLOW_SEALING)};
};

TEST_F(LockedDown, NamesTheLockdownAndTheWayOut) {
    for (const char* mode : {"integrity", "confidentiality"}) {
        const std::string text = mode[0] == 'i' ? "none [integrity] confidentiality"
                                                : "none integrity [confidentiality]";
        const std::string message = message_with(text);
        EXPECT_THAT(message, HasSubstr("resource0 (Operation not permitted)"));
        EXPECT_THAT(message, HasSubstr("the kernel is locked down (" + std::string(mode) + ")"));
        EXPECT_THAT(message, HasSubstr("without Secure Boot"));
        EXPECT_THAT(message, testing::Not(HasSubstr("run as root")));
    }
}

TEST_F(LockedDown, RootIsNotToldToBeRoot) {
    const std::string message = message_with("[none] integrity confidentiality");
    EXPECT_THAT(message, testing::Not(HasSubstr("is locked down")));
    if (::geteuid() == 0) {
        EXPECT_THAT(message, HasSubstr("though this is root"));
        EXPECT_THAT(message, testing::Not(HasSubstr("run as root")));
    }
}

TEST(Open, RefusesABarThatIsTooSmall) {
    FakeSysfs sysfs;
    sysfs.add("0000:00:04.0");
    sysfs.write("0000:00:04.0", "resource0", "short");
    EXPECT_EQ(open_code(sysfs.options()), VGPU_E_SYSTEM);
}

TEST(Open, InterruptsNeedUio) {
    FakeSysfs sysfs;
    sysfs.add("0000:00:04.0");
    std::string message;
    EXPECT_EQ(open_code(sysfs.options(VGPU_WAIT_INTERRUPT), &message), VGPU_E_NO_INTERRUPT);
    EXPECT_THAT(message, HasSubstr("uio_pci_generic"));
    // A uio device that cannot be opened: VGPU_WAIT_AUTO falls back to polling.
    std::filesystem::create_directories(sysfs.device("0000:00:04.0") + "/uio/uio0");
    EXPECT_EQ(open_code(sysfs.options(VGPU_WAIT_INTERRUPT), &message), VGPU_E_SYSTEM);
    EXPECT_THAT(message, HasSubstr("uio0"));
    EXPECT_EQ(open_code(sysfs.options(VGPU_WAIT_AUTO)), VGPU_OK);
}

TEST(Open, ChecksItsArguments) {
    vgpu_failure why{};
    EXPECT_EQ(vgpu_open(nullptr, nullptr, &why), VGPU_E_ARGUMENT);
    vgpu_options options = VGPU_OPTIONS_INIT;
    options.struct_size = 1;
    vgpu_device* device = nullptr;
    EXPECT_EQ(vgpu_open(&options, &device, &why), VGPU_E_ARGUMENT);
    options = VGPU_OPTIONS_INIT;
    options.wait_mode = 17;
    EXPECT_EQ(vgpu_open(&options, &device, nullptr), VGPU_E_ARGUMENT);
    EXPECT_EQ(device, nullptr);
    vgpu_close(nullptr);
}

class CallTest : public testing::Test {
  protected:
    CallTest() : device_(Device::adopt(make())) {}

    vgpu_device* make() {
        auto transport = RegisterTransport::create(std::make_unique<FakeWindow>(fake_), nullptr,
                                                   WaitMode::kPoll, clock_);
        auto* const device = new vgpu_device;
        device->transport = std::move(*transport);
        device->address = "0000:00:04.0";
        return device;
    }

    static std::optional<Bytes> add_params(const Bytes& request) {
        std::array<std::uint32_t, 2> params{};
        std::memcpy(params.data(), request.data() + 32, sizeof params);
        return make_response(0, {params[0] + params[1]});
    }

    FakeDevice fake_;
    FakeClock clock_;
    Device device_;
    const std::chrono::milliseconds limit_{5};
};

TEST_F(CallTest, Adds) {
    fake_.mediator = add_params;
    const auto sum = device_.add(100, 200, limit_);
    ASSERT_TRUE(sum) << sum.failure().message;
    EXPECT_EQ(*sum, 300u);
    EXPECT_EQ(*device_.add(0xFFFFFFFF, 2, limit_), 1u);
}

TEST_F(CallTest, AnAdditionWithoutAResultIsAnError) {
    fake_.mediator = [](const Bytes&) { return make_response(0); };
    EXPECT_EQ(device_.add(1, 2, limit_).failure().code, VGPU_E_BAD_RESPONSE);
    EXPECT_TRUE(device_.nop(limit_));
}

TEST_F(CallTest, TellsAboutTheGpu) {
    fake_.mediator = [](const Bytes&) {
        return make_response(0, {VGPU_BACKEND_CUDA, 9 << 16, 132, 13000, 5, 1, 6, 2}, "NVIDIA X");
    };
    const auto info = device_.info(limit_);
    ASSERT_TRUE(info) << info.failure().message;
    EXPECT_EQ(info->backend, std::uint32_t{VGPU_BACKEND_CUDA});
    EXPECT_EQ(info->multiprocessors, 132u);
    EXPECT_EQ(info->memory_total, 0x100000005ULL);
    EXPECT_EQ(info->memory_free, 0x200000006ULL);
    EXPECT_STREQ(info->name, "NVIDIA X");

    fake_.mediator = [](const Bytes&) { return make_response(0, {1, 2, 3}, "short"); };
    EXPECT_EQ(device_.info(limit_).failure().code, VGPU_E_BAD_RESPONSE);
    // A name longer than the field is truncated between characters.
    fake_.mediator = [](const Bytes&) {
        return make_response(0, std::vector<std::uint32_t>(8), std::string(254, 'x') + "\u00fc");
    };
    EXPECT_EQ(std::string(device_.info(limit_)->name), std::string(254, 'x'));
}

TEST_F(CallTest, DeviceErrorsKeepTheirNumber) {
    fake_.mediator = [](const Bytes&) { return make_response(VGPU_ERR_INVALID_POOL, {}, "no Z"); };
    const auto sum = device_.add(1, 2, limit_);
    ASSERT_FALSE(sum);
    EXPECT_EQ(sum.failure().code, VGPU_ERR_INVALID_POOL);
    EXPECT_EQ(sum.failure().message, "no Z");
    vgpu_regs_disconnected(&fake_.regs, 1);
    EXPECT_EQ(device_.nop(limit_).failure().code, VGPU_ERR_MEDIATOR_UNAVAILABLE);
}

TEST_F(CallTest, AnAbandonedAnswerIsNotTakenForTheNext) {
    fake_.mediator = [](const Bytes&) { return make_response(0, {1111}); };
    fake_.polls_before_answer = 1'000'000;
    EXPECT_EQ(device_.add(1, 2, limit_).failure().code, VGPU_E_WAIT_TIMEOUT);
    // Still in flight: the next call waits for it, times out, and sends nothing.
    EXPECT_EQ(device_.add(3, 4, limit_).failure().code, VGPU_E_WAIT_TIMEOUT);
    EXPECT_EQ(fake_.ids.size(), 1u);
    fake_.polls_left = 2;
    fake_.polls_before_answer = 0;
    fake_.mediator = add_params;
    const auto sum = device_.add(3, 4, limit_);
    ASSERT_TRUE(sum) << sum.failure().message;
    EXPECT_EQ(*sum, 7u);
}

TEST_F(CallTest, SubmitAndWaitAreTheHalvesOfACall) {
    fake_.mediator = [](const Bytes&) { return make_response(0, {9}, "d"); };
    const std::array<std::byte, 32> bytes{};
    const auto id = raw::submit_bytes(device_, bytes);
    ASSERT_TRUE(id);
    const auto reply = device_.wait(limit_);
    ASSERT_TRUE(reply);
    EXPECT_EQ(reply->request_id, *id);
    EXPECT_EQ(reply->results[0], 9u);
    EXPECT_EQ(device_.timestamp(), 123456789012ULL);
}

TEST_F(CallTest, MmioStaysWithinTheBar) {
    std::uint64_t value = 0;
    EXPECT_EQ(vgpu_mmio_write(device_.get(), VGPU_REG_SCRATCH, 4, 77, nullptr), VGPU_OK);
    EXPECT_EQ(vgpu_mmio_read(device_.get(), VGPU_REG_SCRATCH, 4, &value, nullptr), VGPU_OK);
    EXPECT_EQ(value, 77u);
    EXPECT_EQ(vgpu_mmio_read(device_.get(), 0xFF8, 8, &value, nullptr), VGPU_OK);
    EXPECT_EQ(vgpu_mmio_read(device_.get(), 0xFF9, 8, &value, nullptr), VGPU_E_ARGUMENT);
    EXPECT_EQ(vgpu_mmio_read(device_.get(), 0xFFFFFFFF, 1, &value, nullptr), VGPU_E_ARGUMENT);
    EXPECT_EQ(vgpu_mmio_read(device_.get(), 0, 3, &value, nullptr), VGPU_E_ARGUMENT);
    EXPECT_EQ(vgpu_mmio_write(device_.get(), 0x1000, 1, 0, nullptr), VGPU_E_ARGUMENT);
}

TEST(Header, CompilesAsC) {
    EXPECT_EQ(vgpu_header_compiles_as_c(), 0);
}

}  // namespace
}  // namespace vgpu::client::test
