// SPDX-License-Identifier: MIT
//
// UnixListener: a listening Unix stream socket and its file. A file left behind by a dead listener
// is replaced; a live listener, or anything that is not a socket, is never touched. The file has
// mode 0660 from its first moment on. Two programs that start at once do not take the path from
// each other: a lock on the folder covers the look and the bind.
#pragma once

#include <sys/types.h>

#include <string>

#include "base/fd.h"
#include "base/result.h"

namespace vgpu {

// Who is at the other end of a connection, as the kernel saw it at connect(2).
struct PeerCredentials {
    pid_t pid = 0;
    uid_t uid = 0;
    gid_t gid = 0;
};

// Borrows a connected Unix socket.
Result<PeerCredentials> peer_credentials(int fd);

class [[nodiscard]] UnixListener {
  public:
    // Listens at `path`, which the user gave with `option`. The error is a sentence that says what
    // to do.
    static Result<UnixListener> create(const std::string& path,
                                       const std::string& option = "--socket");

    UnixListener(UnixListener&& other) noexcept = default;
    UnixListener& operator=(UnixListener&& other) noexcept = delete;
    UnixListener(const UnixListener&) = delete;
    UnixListener& operator=(const UnixListener&) = delete;
    // Closes, and removes the file if it is still this listener's.
    ~UnixListener();

    // Borrows; non-blocking, close-on-exec.
    [[nodiscard]] int fd() const { return fd_.get(); }
    [[nodiscard]] const std::string& path() const { return path_; }

    // The next waiting connection, non-blocking and close-on-exec; empty with errno set if there is
    // none (EAGAIN) or it cannot be taken.
    Fd accept();

    // Removes the file if it is still this listener's, and hands the socket over, which listens no
    // more once it is closed. Closing it closes the connections that wait there.
    [[nodiscard]] Fd close_path();

  private:
    UnixListener(Fd fd, std::string path, dev_t device, ino_t inode)
        : fd_(std::move(fd)), path_(std::move(path)), device_(device), inode_(inode) {}

    Fd fd_;
    std::string path_;
    dev_t device_;
    ino_t inode_;
};

}  // namespace vgpu
