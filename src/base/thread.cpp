// SPDX-License-Identifier: MIT
#include "base/thread.h"

#include <pthread.h>

#include <csignal>
#include <system_error>
#include <utility>

namespace vgpu {

std::thread start_thread(std::function<void()> run) {
    sigset_t all;
    sigset_t before;
    sigfillset(&all);
    ::pthread_sigmask(SIG_SETMASK, &all, &before);
    try {
        std::thread thread(std::move(run));
        ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
        return thread;
    } catch (const std::system_error& error) {
        ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
        throw std::system_error(error.code(),
                                "cannot start a thread: the limit of threads is reached (TasksMax= "
                                "of the service, ulimit -u, kernel.threads-max)");
    }
}

}  // namespace vgpu
