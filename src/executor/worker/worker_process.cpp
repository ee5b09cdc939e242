// SPDX-License-Identifier: MIT
#include "executor/worker/worker_process.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <new>

namespace vgpu::worker {

Result<std::unique_ptr<WorkerProcess>> WorkerProcess::start(const Command& command) {
    const auto failed = [](int error) {
        return Error::from_errno("cannot start the GPU's worker process", error);
    };
    const Fd memory(::memfd_create("vgpu-worker", MFD_CLOEXEC | MFD_ALLOW_SEALING));
    if (!memory || ::ftruncate(memory.get(), sizeof(WorkerMemory)) != 0 ||
        ::fcntl(memory.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0) {
        return failed(errno);
    }
    auto mapping = Mapping::create(memory.get(), sizeof(WorkerMemory), PROT_READ | PROT_WRITE);
    if (!mapping) {
        return std::move(mapping).error();
    }
    new (mapping->data()) WorkerMemory;
    std::array<int, 2> ends{};
    if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends.data()) != 0) {
        return failed(errno);
    }
    Fd ours(ends[0]);
    const Fd theirs(ends[1]);
    auto child = ChildProcess::start(
        {.program = command.program, .name = "vgpu-gpu-worker", .arguments = command.arguments},
        {memory.get(), theirs.get()});
    if (!child) {
        return failed(child.error().sys_errno);
    }
    return std::unique_ptr<WorkerProcess>(
        new WorkerProcess(std::move(child).value(), std::move(ours), std::move(mapping).value()));
}

}  // namespace vgpu::worker
