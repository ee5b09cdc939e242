// SPDX-License-Identifier: MIT
#include "files/vm_folder.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <utility>

#include "ipc/file_line.h"

namespace vgpu {
namespace {

// Read and write for the VM's user and group; others read.
constexpr mode_t kResponseMode = 0664;

// Returns why a file cannot be used; null if it is a regular file.
const char* unusable(mode_t mode) {
    if (S_ISREG(mode)) {
        return nullptr;
    }
    if (S_ISLNK(mode)) {
        return "is a symbolic link, and is not followed";
    }
    if (S_ISDIR(mode)) {
        return "is a folder";
    }
    return "is not a regular file";
}

// Returns what to do about an error of the file system; may be empty.
const char* remedy(int error) {
    switch (error) {
        case EACCES:
        case EPERM:
            return ": the mediator's user needs permission to read and write the VM's files "
                   "(an access control list, or [files] in a folder of its own)";
        case EROFS:
            return ": the share is mounted read-only, so requests cannot be taken; mount it with "
                   "write access";
        case ENOSPC:
        case EDQUOT:
            return ": make room on the share; the response is kept and written then";
        case ESTALE:
            return ": the NFS server no longer knows the folder; if this persists, mount the share "
                   "again";
        default:
            return "";
    }
}

}  // namespace

Error VmFolder::failed(const char* doing, const char* name, int error) const {
    Error made =
        Error::from_errno(std::string("cannot ") + doing + ' ' + shown_ + '/' + name, error);
    made.message += remedy(error);
    return made;
}

Result<VmFolder> VmFolder::open(int root, const std::string& name, std::string shown) {
    Fd folder(::openat(root, name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    if (!folder) {
        const int error = errno;
        struct stat info {};
        if ((error == ENOTDIR || error == ELOOP) &&
            ::fstatat(root, name.c_str(), &info, AT_SYMLINK_NOFOLLOW) == 0) {
            return Error{shown + (S_ISLNK(info.st_mode) ? " is a symbolic link, and is not followed"
                                                        : " is not a folder"),
                         error};
        }
        Error made = Error::from_errno("cannot open " + shown, error);
        made.message += remedy(error);
        return made;
    }
    return VmFolder(std::move(folder), std::move(shown));
}

bool VmFolder::replaced(const std::string& path) const {
    struct stat ours {};
    struct stat named {};
    return ::fstat(folder_.get(), &ours) != 0 || ::lstat(path.c_str(), &named) != 0 ||
           ours.st_dev != named.st_dev || ours.st_ino != named.st_ino;
}

Result<Fd> VmFolder::open_regular(const char* name, int flags) const {
    // O_PATH opens nothing: no FIFO waits, no device acts. The check and the open refer to the same
    // file, whatever has its name meanwhile.
    const Fd path(::openat(folder_.get(), name, O_PATH | O_NOFOLLOW | O_CLOEXEC));
    if (!path) {
        return errno == ENOENT ? Result<Fd>(Fd()) : failed("open", name, errno);
    }
    struct stat info {};
    if (::fstat(path.get(), &info) != 0) {
        return failed("look up", name, errno);
    }
    if (const char* const why = unusable(info.st_mode)) {
        return Error{shown_ + '/' + name + ' ' + why, EINVAL};
    }
    if (info.st_nlink > 1) {
        return Error{shown_ + '/' + name + " has other hard links: replace it by a new file",
                     EINVAL};
    }
    const std::string again = "/proc/self/fd/" + std::to_string(path.get());
    Fd file(::open(again.c_str(), flags | O_NONBLOCK | O_NOCTTY | O_CLOEXEC));
    if (!file) {
        return failed("open", name, errno);
    }
    return file;
}

Result<std::optional<FoundRequest>> VmFolder::find_request() const {
    auto file = open_regular(kRequestFile, O_RDWR);
    if (!file) {
        return std::move(file).error();
    }
    if (!*file) {
        return std::optional<FoundRequest>();
    }
    std::array<char, kMostFileLine + 1> bytes{};
    std::size_t size = 0;
    while (size < bytes.size()) {
        const ssize_t count = ::pread(file->get(), bytes.data() + size, bytes.size() - size,
                                      static_cast<off_t>(size));
        if (count < 0 && errno == EINTR) {
            continue;
        }
        if (count < 0) {
            return failed("read", kRequestFile, errno);
        }
        if (count == 0) {
            break;
        }
        size += static_cast<std::size_t>(count);
    }
    if (size == 0) {
        return std::optional<FoundRequest>();
    }
    return std::optional<FoundRequest>(
        FoundRequest{.file = std::move(*file), .content = std::string(bytes.data(), size)});
}

Result<void> VmFolder::clear(const FoundRequest& request) const {
    if (::ftruncate(request.file.get(), 0) != 0) {
        return failed("clear", kRequestFile, errno);
    }
    return {};
}

Result<void> VmFolder::write_response(std::string_view line) const {
    auto file = open_regular(kResponseFile, O_WRONLY);
    if (!file) {
        return std::move(file).error();
    }
    if (!*file) {
        *file = Fd(::openat(folder_.get(), kResponseFile,
                            O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, kResponseMode));
        if (!*file) {
            return failed("create", kResponseFile, errno);
        }
        // So that the VM can clear and replace it. As another user than root, the folder's default
        // access control list does that.
        struct stat owner {};
        if (::fstat(folder_.get(), &owner) == 0 && owner.st_uid != ::geteuid()) {
            static_cast<void>(::fchown(file->get(), owner.st_uid, owner.st_gid));
        }
        static_cast<void>(::fchmod(file->get(), kResponseMode));
    }
    if (::ftruncate(file->get(), 0) != 0) {
        return failed("clear", kResponseFile, errno);
    }
    // One call: a reader that polls sees no part of the line.
    const ssize_t written = ::pwrite(file->get(), line.data(), line.size(), 0);
    if (written != static_cast<ssize_t>(line.size())) {
        return failed("write", kResponseFile, written < 0 ? errno : ENOSPC);
    }
    // NFS reports a full disk when the file is closed.
    if (::close(file->release()) != 0 && errno != EINTR) {
        return failed("write", kResponseFile, errno);
    }
    return {};
}

}  // namespace vgpu
