// SPDX-License-Identifier: MIT
#include "ipc/unix_listener.h"

#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstring>
#include <filesystem>
#include <thread>

namespace vgpu {
namespace {

constexpr int kBacklog = 256;

Result<void> clear_path(const std::string& path, const std::string& option,
                        const sockaddr_un& address) {
    struct stat info {};
    if (::lstat(path.c_str(), &info) != 0) {
        if (errno == ENOENT) {
            return {};
        }
        return Error::from_errno("cannot stat " + path, errno);
    }
    if (!S_ISSOCK(info.st_mode)) {
        return Error{path + " exists and is not a socket: remove it or choose another path",
                     EEXIST};
    }
    const Fd probe(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (!probe) {
        return Error::from_errno("cannot create a socket", errno);
    }
    if (::connect(probe.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0 ||
        errno == EAGAIN) {
        return Error{"another process is listening on " + path +
                         ", possibly another mediator: stop it or choose another path with " +
                         option,
                     EADDRINUSE};
    }
    if (errno != ECONNREFUSED) {
        return Error::from_errno("cannot determine whether " + path + " is in use", errno);
    }
    if (::unlink(path.c_str()) != 0) {
        return Error::from_errno("cannot remove the stale socket " + path, errno);
    }
    return {};
}

// Serialises mediators that start concurrently. Any process that may open the folder can hold its
// lock, so the wait is bounded.
Result<void> lock_folder(int fd, const std::string& folder, const std::string& option) {
    constexpr std::chrono::milliseconds kPause{20};
    for (int tries = 100; ::flock(fd, LOCK_EX | LOCK_NB) != 0; --tries) {
        if (errno != EWOULDBLOCK && errno != EINTR) {
            return Error::from_errno("cannot lock folder " + folder, errno);
        }
        if (tries == 0) {
            return Error{std::string("folder ")
                             .append(folder)
                             .append(" is locked by another process: end that process (lsof ")
                             .append(folder)
                             .append(" shows it) or choose another folder with ")
                             .append(option),
                         EWOULDBLOCK};
        }
        std::this_thread::sleep_for(kPause);
    }
    return {};
}

}  // namespace

Result<PeerCredentials> peer_credentials(int fd) {
    ucred found{};
    socklen_t length = sizeof found;
    if (::getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &found, &length) != 0) {
        return Error::from_errno("cannot read the peer's credentials", errno);
    }
    return PeerCredentials{found.pid, found.uid, found.gid};
}

Result<UnixListener> UnixListener::create(const std::string& path, const std::string& option,
                                          mode_t mode) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    if (path.empty() || path.size() >= sizeof address.sun_path) {
        return Error{"socket path '" + path + "' must have 1 to " +
                         std::to_string(sizeof address.sun_path - 1) + " characters",
                     ENAMETOOLONG};
    }
    std::memcpy(address.sun_path, path.data(), path.size());

    std::string folder = std::filesystem::path(path).parent_path();
    if (folder.empty()) {
        folder = ".";
    }
    const Fd folder_lock(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!folder_lock) {
        if (errno == ENOENT) {
            return Error{"folder " + folder + " does not exist: create it (mkdir " + folder +
                             ") or choose another path with " + option,
                         ENOENT};
        }
        return Error::from_errno("cannot open folder " + folder, errno);
    }
    if (auto locked = lock_folder(folder_lock.get(), folder, option); !locked) {
        return std::move(locked).error();
    }
    if (auto cleared = clear_path(path, option, address); !cleared) {
        return std::move(cleared).error();
    }

    Fd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (!fd) {
        return Error::from_errno("cannot create a socket", errno);
    }
    // bind(2) creates the file with the socket's mode, less the umask; chmod(2) then undoes the
    // umask. In between the file is never more accessible than intended.
    struct stat info {};
    if (::fchmod(fd.get(), mode) != 0 ||
        ::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
        return Error::from_errno("cannot bind " + path, errno);
    }
    if (::chmod(path.c_str(), mode) != 0 || ::lstat(path.c_str(), &info) != 0 ||
        ::listen(fd.get(), kBacklog) != 0) {
        const int error = errno;
        ::unlink(path.c_str());
        return Error::from_errno("cannot listen on " + path, error);
    }
    return UnixListener(std::move(fd), path, info.st_dev, info.st_ino);
}

Result<UnixListener> UnixListener::adopt(Fd fd) {
    const std::string name = "descriptor " + std::to_string(fd.get());
    const auto has_option = [&fd](int option, int value) {
        int found = 0;
        socklen_t length = sizeof found;
        return ::getsockopt(fd.get(), SOL_SOCKET, option, &found, &length) == 0 && found == value;
    };
    if (!has_option(SO_DOMAIN, AF_UNIX) || !has_option(SO_TYPE, SOCK_STREAM) ||
        !has_option(SO_ACCEPTCONN, 1)) {
        return Error{name + " is not a listening Unix stream socket", EINVAL};
    }
    sockaddr_un address{};
    socklen_t length = sizeof address;
    if (::getsockname(fd.get(), reinterpret_cast<sockaddr*>(&address), &length) != 0) {
        return Error::from_errno("cannot read the address of " + name, errno);
    }
    // An address without a file is empty or begins with a zero byte.
    const std::size_t room =
        length - std::min<std::size_t>(length, offsetof(sockaddr_un, sun_path));
    std::string path(address.sun_path, ::strnlen(address.sun_path, room));
    if (path.empty()) {
        return Error{name + " is a socket without a path", EINVAL};
    }
    const int flags = ::fcntl(fd.get(), F_GETFL);
    if (flags < 0 || ::fcntl(fd.get(), F_SETFL, flags | O_NONBLOCK) != 0 ||
        ::fcntl(fd.get(), F_SETFD, FD_CLOEXEC) != 0) {
        return Error::from_errno("cannot set the flags of " + name, errno);
    }
    return UnixListener(std::move(fd), std::move(path), 0, 0);
}

UnixListener::~UnixListener() {
    const Fd closed = close_path();
}

Fd UnixListener::close_path() {
    if (!fd_) {
        return {};
    }
    struct stat info {};
    if (::lstat(path_.c_str(), &info) == 0 && info.st_dev == device_ && info.st_ino == inode_) {
        ::unlink(path_.c_str());
    }
    return std::move(fd_);
}

Fd UnixListener::accept() {
    return Fd(::accept4(fd_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
}

}  // namespace vgpu
