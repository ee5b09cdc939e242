// SPDX-License-Identifier: MIT
//
// UnixListener: a listening Unix stream socket and its file. It replaces a file left by a dead
// listener, but never touches a live listener or anything that is not a socket. The file never has
// a more permissive mode than the given one. Programs that start concurrently cannot take the path
// from each other: a lock on the folder covers check and bind. The file of an adopted socket
// belongs to the process that created it, and is never changed.
#pragma once

#include <sys/types.h>

#include <string>

#include "base/fd.h"
#include "base/result.h"

namespace vgpu {

// The peer of a connection, as recorded by the kernel at connect(2).
struct PeerCredentials {
    pid_t pid = 0;
    uid_t uid = 0;
    gid_t gid = 0;
};

// Borrows a connected Unix socket.
Result<PeerCredentials> peer_credentials(int fd);

class [[nodiscard]] UnixListener {
  public:
    static constexpr mode_t kMode = 0660;

    // Listens at `path`, which the user gave with `option`. The error text states what to do.
    // `mode`: of the file.
    static Result<UnixListener> create(const std::string& path,
                                       const std::string& option = "--socket", mode_t mode = kMode);

    // Consumes a listening socket that another process created and bound.
    static Result<UnixListener> adopt(Fd fd);

    UnixListener(UnixListener&& other) noexcept = default;
    UnixListener& operator=(UnixListener&& other) noexcept = delete;
    UnixListener(const UnixListener&) = delete;
    UnixListener& operator=(const UnixListener&) = delete;
    // Closes the socket, and removes the file if it is still this listener's and was created by it.
    ~UnixListener();

    // Borrows; non-blocking, close-on-exec.
    [[nodiscard]] int fd() const { return fd_.get(); }
    [[nodiscard]] const std::string& path() const { return path_; }

    // Accepts the next pending connection, non-blocking and close-on-exec. Returns an empty Fd with
    // errno set if there is none (EAGAIN) or accept(2) fails.
    Fd accept();

    // Removes the file as the destructor does, and returns the socket. Closing that stops listening
    // and closes the pending connections, unless another process holds the socket too.
    [[nodiscard]] Fd close_path();

  private:
    UnixListener(Fd fd, std::string path, dev_t device, ino_t inode)
        : fd_(std::move(fd)), path_(std::move(path)), device_(device), inode_(inode) {}

    Fd fd_;
    std::string path_;
    dev_t device_;
    ino_t inode_;  // 0, which no file has: the file is another process's
};

}  // namespace vgpu
