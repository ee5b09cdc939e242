// SPDX-License-Identifier: MIT
#include "mediator/shm/interrupter.h"

#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cstddef>
#include <cstdint>

namespace vgpu {
namespace {

// Completions in the ring before one call drains them; and the size of the ring.
constexpr unsigned kReapEvery = 64;
constexpr std::size_t kRing = 128;

}  // namespace

// glibc has no wrappers for these calls.
Interrupter::Interrupter() : null_(::open("/dev/null", O_RDONLY | O_CLOEXEC)) {
    if (::syscall(SYS_io_setup, kRing, &context_) != 0) {
        context_ = 0;
    }
}

Interrupter::~Interrupter() {
    if (context_ != 0) {
        ::syscall(SYS_io_destroy, context_);
    }
}

void Interrupter::reap() {
    std::array<io_event, kRing> events;  // NOLINT(*-member-init): written by the kernel
    ::syscall(SYS_io_getevents, context_, 0, events.size(), events.data(), nullptr);
    unreaped_ = 0;
}

void Interrupter::interrupt(int eventfd) {
    iocb request{};
    request.aio_lio_opcode = IOCB_CMD_PREAD;
    request.aio_fildes = static_cast<std::uint32_t>(null_.get());
    request.aio_flags = IOCB_FLAG_RESFD;
    request.aio_resfd = static_cast<std::uint32_t>(eventfd);
    iocb* list = &request;
    static_cast<void>(::syscall(SYS_io_submit, context_, 1, &list));
    ++interrupts_;
    if (++unreaped_ == kReapEvery) {
        reap();
    }
}

}  // namespace vgpu
