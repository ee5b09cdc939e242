// SPDX-License-Identifier: MIT
#include "client/file/file_transport.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "base/folder_claim.h"
#include "base/regular_file.h"
#include "client/include/vgpu.h"

namespace vgpu::client {
namespace {

// Read and write for all: the host's user and the guest's have no common group.
constexpr mode_t kMode = 0666;
// Pauses between two polls: doubled from the first to the longest.
constexpr Nanoseconds kFirstPause = std::chrono::microseconds(200);
constexpr Nanoseconds kLongestPause = std::chrono::milliseconds(20);
constexpr std::size_t kMostListed = 8;

Failure system_failure(const std::string& what, int error) {
    const bool denied = error == EACCES || error == EPERM || error == EROFS;
    std::string message = what + ": " + std::generic_category().message(error);
    if (denied) {
        message += ": this user needs permission to read and write the VM's files on the share";
    } else if (error == ENOSPC || error == EDQUOT) {
        message += ": make room on the share";
    } else if (error == ESTALE) {
        message += ": mount the share again";
    }
    return {denied ? VGPU_E_NO_PERMISSION : VGPU_E_SYSTEM, message, error};
}

struct CloseDir {
    void operator()(DIR* dir) const { static_cast<void>(::closedir(dir)); }
};

// Returns the id of the only folder of a VM.
Expected<std::uint32_t> find_vm(const std::string& directory) {
    const std::unique_ptr<DIR, CloseDir> dir(::opendir(directory.c_str()));
    if (!dir) {
        if (errno == ENOENT || errno == ENOTDIR) {
            return Failure{
                VGPU_E_NO_DEVICE,
                "there is no folder " + directory + ": mount the share of the file protocol there",
                errno};
        }
        return system_failure("cannot read " + directory, errno);
    }
    std::vector<std::uint32_t> ids;
    while (const dirent* const entry = ::readdir(dir.get())) {
        std::uint32_t id = 0;
        if (parse_vm_folder(entry->d_name, id)) {
            ids.push_back(id);
        }
    }
    std::sort(ids.begin(), ids.end());
    if (ids.empty()) {
        return Failure{VGPU_E_NO_DEVICE,
                       directory +
                           " has no folder vmN: name the folder that contains it, or ask the "
                           "host's operator to create the one of this VM",
                       0};
    }
    if (ids.size() > 1 && ids.front() != 0) {
        std::string names;
        for (std::size_t i = 0; i < std::min(ids.size(), kMostListed); ++i) {
            names += (i > 0 ? ", " : "") + vm_folder_name(ids[i]);
        }
        return Failure{VGPU_E_ARGUMENT,
                       directory + " has the folders of several VMs (" + names +
                           (ids.size() > kMostListed ? ", …" : "") +
                           "): say which one is this VM's (vm_id, vgpu --vm-id)",
                       0};
    }
    return ids.front();
}

}  // namespace

Failure FileTransport::failed(const char* name, const std::string& what, int error) const {
    return system_failure(path_of(name) + ' ' + what, error);
}

std::string FileTransport::path_of(const char* name) const {
    return settings_.directory + '/' + vm_folder_name(settings_.vm_id) + '/' + name;
}

// Opens, or creates, a file for writing.
Expected<Fd> FileTransport::open_for_writing(const char* name) const {
    auto file = open_regular_file(folder_.get(), name, O_WRONLY);
    if (file && *file) {
        return std::move(file).value();
    }
    if (!file && (file.error().sys_errno == EACCES || file.error().sys_errno == EPERM)) {
        // Another user's: write permission on the folder suffices to replace it.
        static_cast<void>(::unlinkat(folder_.get(), name, 0));
    } else if (!file) {
        return Failure{file.error().sys_errno == EINVAL ? VGPU_E_ARGUMENT : VGPU_E_SYSTEM,
                       path_of(name) + ' ' + file.error().message, file.error().sys_errno};
    }
    Fd made(
        ::openat(folder_.get(), name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, kMode));
    if (!made) {
        return failed(name, "cannot be created",
                      errno == EEXIST && !file ? file.error().sys_errno : errno);
    }
    static_cast<void>(::fchmod(made.get(), kMode));
    return made;
}

Expected<std::unique_ptr<FileTransport>> FileTransport::create(FileSettings settings) {
    if (settings.vm_id == 0) {
        const auto found = find_vm(settings.directory);
        if (!found) {
            return found.failure();
        }
        settings.vm_id = *found;
    }
    const std::string path = settings.directory + '/' + vm_folder_name(settings.vm_id);
    Fd folder(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    if (!folder) {
        if (errno == ENOENT || errno == ENOTDIR) {
            return Failure{VGPU_E_NO_DEVICE,
                           "there is no folder " + path +
                               ": ask the host's operator to create it, or check the VM id",
                           errno};
        }
        return system_failure("cannot open " + path, errno);
    }
    Fd claim(claim_folder("vgpu-files", folder.get()));
    if (!claim && errno == EADDRINUSE) {
        return Failure{VGPU_E_IN_USE,
                       "another program on this machine uses " + path +
                           ": the file protocol serves one request at a time",
                       errno};
    }
    if (!claim) {
        return system_failure("cannot claim " + path, errno);
    }
    return std::unique_ptr<FileTransport>(
        new FileTransport(std::move(settings), std::move(folder), std::move(claim)));
}

Expected<void> FileTransport::write_request(const FileRequest& request) {
    // Created here, so that an NFS client knows the file and looks for changes of its content.
    const auto response = open_for_writing(kResponseFile);
    if (!response) {
        return response.failure();
    }
    if (::ftruncate(response->get(), 0) != 0) {
        return failed(kResponseFile, "cannot be cleared", errno);
    }
    const auto file = open_for_writing(kRequestFile);
    if (!file) {
        return file.failure();
    }
    const std::string line = file_request_line(request);
    if (::ftruncate(file->get(), 0) != 0) {
        return failed(kRequestFile, "cannot be cleared", errno);
    }
    const ssize_t written = ::pwrite(file->get(), line.data(), line.size(), 0);
    if (written != static_cast<ssize_t>(line.size())) {
        return failed(kRequestFile, "cannot be written", written < 0 ? errno : ENOSPC);
    }
    // So that an NFS client sends it now.
    if (::fdatasync(file->get()) != 0) {
        return failed(kRequestFile, "cannot be written", errno);
    }
    return {};
}

void FileTransport::withdraw_request() {
    if (const auto file = open_regular_file(folder_.get(), kRequestFile, O_WRONLY); file && *file) {
        static_cast<void>(::ftruncate(file->get(), 0));
    }
}

FileTransport::~FileTransport() {
    if (submitted_ && !completion_) {
        withdraw_request();
    }
}

Expected<std::uint32_t> FileTransport::submit(std::span<const std::byte> request) {
    if (submitted_) {
        const auto done = poll_for_answer(Nanoseconds(0));
        if (!done) {
            return done.failure();
        }
        if (!*done) {
            return Failure{VGPU_E_BUSY, vgpu_code_text(VGPU_E_BUSY), 0};
        }
    }
    completion_.reset();
    submitted_ = false;
    vgpu_request fixed{};
    std::array<std::uint32_t, 2> numbers{};
    const bool addition =
        request.size() == sizeof fixed + sizeof numbers &&
        (std::memcpy(&fixed, request.data(), sizeof fixed),
         fixed.opcode == VGPU_OP_CUDA_KERNEL && fixed.flags == 0 && fixed.param_count == 2);
    ++last_id_;
    submitted_ = true;
    if (!addition) {
        complete(VGPU_ERR_UNSUPPORTED_OPERATION, 0,
                 "the file protocol can only add two numbers: for anything else the VM needs a "
                 "vgpu device");
        return last_id_;
    }
    std::memcpy(numbers.data(), request.data() + sizeof fixed, sizeof numbers);
    const auto written = write_request({.pool = settings_.pool,
                                        .priority = static_cast<std::uint8_t>(settings_.priority),
                                        .vm_id = settings_.vm_id,
                                        .a = numbers[0],
                                        .b = numbers[1]});
    if (!written) {
        submitted_ = false;
        return written.failure();
    }
    return last_id_;
}

Expected<Completion> FileTransport::wait(Nanoseconds deadline) {
    if (!submitted_) {
        return Failure{VGPU_E_NOT_SUBMITTED, vgpu_code_text(VGPU_E_NOT_SUBMITTED), 0};
    }
    const auto done = poll_for_answer(deadline);
    if (!done) {
        return done.failure();
    }
    if (!*done) {
        return Failure{VGPU_E_WAIT_TIMEOUT,
                       "no response in " + settings_.directory + '/' +
                           vm_folder_name(settings_.vm_id) +
                           " within the time limit: ask the host's operator whether the mediator "
                           "serves this folder ([files] directory)",
                       0};
    }
    submitted_ = false;
    Completion taken = std::move(*completion_);
    completion_.reset();
    return taken;
}

Expected<void> FileTransport::drain(Nanoseconds deadline) {
    if (submitted_) {
        const auto done = poll_for_answer(deadline);
        if (!done) {
            return done.failure();
        }
        if (!*done) {
            return Failure{VGPU_E_WAIT_TIMEOUT, vgpu_code_text(VGPU_E_WAIT_TIMEOUT), 0};
        }
    }
    submitted_ = false;
    completion_.reset();
    return {};
}

Expected<void> FileTransport::wait_interrupt(Nanoseconds /*deadline*/) {
    return Failure{VGPU_E_NO_INTERRUPT, "files have no interrupt", 0};
}

Expected<bool> FileTransport::poll_for_answer(Nanoseconds deadline) {
    Nanoseconds pause = kFirstPause;
    while (!completion_) {
        const auto complete = read_response();
        if (!complete) {
            return complete.failure();
        }
        if (*complete) {
            break;
        }
        const Nanoseconds now = clock().now();
        if (now >= deadline) {
            return false;
        }
        clock().sleep(deadline == kNever ? pause : std::min(pause, deadline - now));
        pause = std::min(pause * 2, kLongestPause);
    }
    return true;
}

Expected<bool> FileTransport::read_response() {
    // Opened for each poll: that is when an NFS client asks the server for changes.
    const auto file = open_regular_file(folder_.get(), kResponseFile, O_RDONLY);
    if (!file && file.error().sys_errno != EWOULDBLOCK) {
        submitted_ = false;
        withdraw_request();
        return Failure{VGPU_E_SYSTEM, path_of(kResponseFile) + ' ' + file.error().message,
                       file.error().sys_errno};
    }
    if (!file || !*file) {
        return false;
    }
    std::array<char, kMostFileLine> bytes{};
    const ssize_t size = ::pread(file->get(), bytes.data(), bytes.size(), 0);
    if (size < 0) {
        return failed(kResponseFile, "cannot be read", errno);
    }
    const std::string_view content(bytes.data(), static_cast<std::size_t>(size));
    if (content.find('\n') == std::string_view::npos && content.size() < bytes.size()) {
        return false;
    }
    const auto response = parse_file_response(content);
    if (!response) {
        submitted_ = false;
        return Failure{
            VGPU_E_BAD_RESPONSE,
            response.error().message + ": another program writes to " + path_of(kResponseFile), 0};
    }
    complete(response->code, response->sum, response->error);
    return true;
}

void FileTransport::complete(std::uint32_t code, std::uint32_t sum, std::string why) {
    Completion made;
    made.error_code = code;
    made.why = std::move(why);
    if (code == VGPU_ERR_NONE) {
        vgpu_response fixed{};
        fixed.version = VGPU_PROTOCOL_VERSION;
        fixed.result_count = 1;
        made.response_untrusted.resize(sizeof fixed + sizeof sum);
        std::memcpy(made.response_untrusted.data(), &fixed, sizeof fixed);
        std::memcpy(made.response_untrusted.data() + sizeof fixed, &sum, sizeof sum);
    }
    completion_ = std::move(made);
    timestamp_ = static_cast<std::uint64_t>(clock().now().count());
}

}  // namespace vgpu::client
