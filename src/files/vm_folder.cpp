// SPDX-License-Identifier: MIT
#include "files/vm_folder.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <utility>

#include "base/regular_file.h"
#include "ipc/file_line.h"

namespace vgpu {
namespace {

// Who may do what is up to the folder: the VM's user must be able to clear a file of the
// mediator's.
constexpr mode_t kResponseMode = 0666;

// Returns what to do about an error of the file system; may be empty.
const char* remedy(int error) {
    switch (error) {
        case EACCES:
        case EPERM:
            return ": the mediator's user needs permission to read and write the VM's files, for "
                   "example by an access control list";
        case EROFS:
            return ": read-only for the mediator, so requests cannot be taken: mount the share "
                   "with "
                   "write access, or, for a systemd service, allow it by ReadWritePaths=";
        case ENOSPC:
        case EDQUOT:
            return ": make room on the share; the response is kept and written then";
        case EWOULDBLOCK:
            return ": another program holds a lease on the file, and does not give it up";
        case ESTALE:
            return ": the NFS server no longer knows the folder; if this persists, mount the share "
                   "again";
        default:
            return "";
    }
}

}  // namespace

Error VmFolder::failed(const char* name, const char* what, int error) const {
    Error made = Error::from_errno(shown_ + '/' + name + ' ' + what, error);
    made.message += remedy(error);
    return made;
}

Result<Fd> VmFolder::open_file(const char* name, int flags) const {
    auto file = open_regular_file(folder_.get(), name, flags);
    if (!file) {
        const Error& error = file.error();
        return Error{shown_ + '/' + name + ' ' + error.message + remedy(error.sys_errno),
                     error.sys_errno};
    }
    return file;
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

Result<std::optional<FoundRequest>> VmFolder::find_request() const {
    auto file = open_file(kRequestFile, O_RDONLY);
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
            return failed(kRequestFile, "cannot be read", errno);
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
    const Fd file = reopen(request.file.get(), O_WRONLY);
    if (!file || ::ftruncate(file.get(), 0) != 0) {
        return failed(kRequestFile, "cannot be cleared", errno);
    }
    return {};
}

Result<void> VmFolder::write_response(std::string_view line) const {
    auto file = open_file(kResponseFile, O_WRONLY);
    if (!file) {
        return std::move(file).error();
    }
    if (!*file) {
        *file = Fd(::openat(folder_.get(), kResponseFile,
                            O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, kResponseMode));
        if (!*file || ::fchmod(file->get(), kResponseMode) != 0) {
            return failed(kResponseFile, "cannot be created", errno);
        }
    }
    if (::ftruncate(file->get(), 0) != 0) {
        return failed(kResponseFile, "cannot be cleared", errno);
    }
    // One call: a reader that polls sees no part of the line.
    const ssize_t written = ::pwrite(file->get(), line.data(), line.size(), 0);
    if (written != static_cast<ssize_t>(line.size())) {
        return failed(kResponseFile, "cannot be written", written < 0 ? errno : ENOSPC);
    }
    // NFS reports a full disk when the file is closed.
    if (::close(file->release()) != 0 && errno != EINTR) {
        return failed(kResponseFile, "cannot be written", errno);
    }
    return {};
}

}  // namespace vgpu
