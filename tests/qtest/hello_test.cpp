// SPDX-License-Identifier: MIT
//
// The hello: what the device says and hands over, what it makes of the answers, and how it falls
// back to version 1 with a mediator that knows no hello.
#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>

#include <filesystem>

#include "qtest/shm_device.h"

namespace vgpu::test {
namespace {

class HelloTest : public ShmDeviceTest {
  protected:
    static std::string target(const Fd& fd) {
        return std::filesystem::read_symlink("/proc/self/fd/" + std::to_string(fd.get())).string();
    }
    // The device works as version 1 does.
    void expect_version_1() {
        EXPECT_EQ(reg(VGPU_REG_SHM_STATE), 0U);
        stub().submit(0x77, make_add(1, 2));
        expect_request(0x77, make_add(1, 2));
        answer(0x77, make_response(0));
        EXPECT_EQ(stub().wait_done(), VGPU_STATUS_DONE);
        stub().response();
    }
};

TEST_F(HelloTest, HandsOverSealedMemoryAndEventfds) {
    start_shm(",shm-size=2M,queues=3");
    receive_hello();
    EXPECT_EQ(hello().hello.protocol_version, VGPU_PROTOCOL_VERSION);
    EXPECT_EQ(hello().hello.peer_kind, VGPU_PEER_DEVICE);
    EXPECT_EQ(hello().hello.features, VGPU_FEATURE_SHM | VGPU_FEATURE_QUEUES);
    EXPECT_EQ(hello().hello.shm_size, 2U << 20);
    EXPECT_EQ(hello().hello.layout_version, VGPU_SHM_LAYOUT_VERSION);
    EXPECT_EQ(hello().hello.queue_count, 3U);
    EXPECT_EQ(hello().hello.reserved[0], 0U);
    EXPECT_EQ(hello().hello.reserved[1], 0U);

    struct stat status {};
    ASSERT_EQ(::fstat(hello().memory.get(), &status), 0);
    EXPECT_EQ(status.st_size, 2 << 20);
    EXPECT_EQ(::fcntl(hello().memory.get(), F_GET_SEALS),
              F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
    EXPECT_NE(target(hello().memory).find("memfd:"), std::string::npos);
    for (const auto* list : {&hello().doorbells, &hello().interrupts}) {
        for (const Fd& fd : *list) {
            EXPECT_EQ(target(fd), "anon_inode:[eventfd]");
            EXPECT_TRUE(::fcntl(fd.get(), F_GETFL) & O_NONBLOCK);
        }
    }
    // Nothing else comes before the answer, and nothing is attached.
    EXPECT_EQ(reg(VGPU_REG_SHM_STATE), 0U);
    sync();
    EXPECT_EQ(reg(VGPU_REG_SHM_STATE), 0U);
    reply(VGPU_HELLO_TAKEN);
    EXPECT_TRUE(wait_attached(true));
}

}  // namespace
}  // namespace vgpu::test
