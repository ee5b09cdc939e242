// SPDX-License-Identifier: MIT
#include "files/vm_server.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <system_error>
#include <utility>

#include "base/thread.h"
#include "ipc/file_line.h"

namespace vgpu {
namespace {

// Poll interval of a watched folder: for changes that are not reported, as through mmap(2).
constexpr std::chrono::milliseconds kWatchedInterval{2000};
// Pause after a check that was caused by a change and found no request, so that a VM that keeps
// changing its files costs little.
constexpr std::chrono::milliseconds kShortestPause{1};
// Between attempts to write a response.
constexpr std::chrono::milliseconds kWriteRetry{1000};
// The connection to the mediator is closed when it was not used for this long.
constexpr std::chrono::seconds kKeepConnection{60};
// Codes above are the library's own.
constexpr int kMostErrorCode = 0xFF;

constexpr long kXfsMagic = 0x58465342;
constexpr long kZfsMagic = 0x2FC12FC1;
constexpr long kF2fsMagic = static_cast<long>(0xF2F52010);

// True if the kernel reports all changes of files on this file system: the changes are made through
// it. Those of network file systems are made elsewhere.
bool reports_changes(int folder) {
    struct statfs info {};
    if (::fstatfs(folder, &info) != 0) {
        return false;
    }
    switch (static_cast<long>(info.f_type)) {
        case EXT4_SUPER_MAGIC:
        case static_cast<long>(BTRFS_SUPER_MAGIC):
        case TMPFS_MAGIC:
        case OVERLAYFS_SUPER_MAGIC:
        case kXfsMagic:
        case kZfsMagic:
        case kF2fsMagic:
            return true;
        default:
            return false;
    }
}

bool is_blank(const std::string& content) {
    return content.find_first_not_of(" \t\r\n") == std::string::npos;
}

std::int64_t now() {
    return std::chrono::steady_clock::now().time_since_epoch().count();
}

}  // namespace

VmServer::VmServer(const FileGatewaySettings& settings, std::uint32_t vm_id, Reporter& reporter,
                   FolderWatcher& watcher)
    : settings_(settings),
      vm_id_(vm_id),
      name_(vm_folder_name(vm_id)),
      path_(settings.directory + '/' + name_),
      report_(reporter),
      watcher_(watcher),
      wake_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
    if (!wake_) {
        throw std::system_error(errno, std::generic_category(), "eventfd");
    }
    thread_ = start_thread([this] { run(); });
}

VmServer::~VmServer() {
    stop();
    thread_.join();
}

void VmServer::stop() {
    stopping_ = true;
    static_cast<void>(::eventfd_write(wake_.get(), 1));
}

std::optional<std::chrono::nanoseconds> VmServer::blocked_since() const {
    const std::int64_t since = blocked_since_;
    return since == 0 ? std::nullopt : std::optional(std::chrono::nanoseconds(since));
}

void VmServer::run() {
    while (!stopping_ && !ended_) {
        blocked_since_ = now();
        check();
        blocked_since_ = 0;
        if (!stopping_ && !ended_) {
            sleep();
        }
    }
    if (!response_.empty()) {
        report_.warn(path_ + ": a response could not be written and is lost");
    }
    close_folder();
    device_.reset();
    ended_ = true;
}

void VmServer::sleep() {
    std::chrono::milliseconds limit = settings_.interval;
    if (watch_ >= 0) {
        limit = kWatchedInterval;
    }
    if (!partial_.empty()) {
        limit = std::min(limit, settings_.partial);
    }
    if (!response_.empty()) {
        limit = std::min(limit, kWriteRetry);
    }
    if (device_ && Steady::now() - used_at_ > kKeepConnection) {
        device_.reset();
    }
    pollfd wait{.fd = wake_.get(), .events = POLLIN, .revents = 0};
    const bool changed = ::poll(&wait, 1, static_cast<int>(limit.count())) > 0;
    eventfd_t count = 0;
    static_cast<void>(::eventfd_read(wake_.get(), &count));
    if (changed && count > 1) {
        // Several changes since the last check: more may follow at once.
        std::this_thread::sleep_for(kShortestPause);
    }
}

bool VmServer::open_folder() {
    const Fd root(::open(settings_.directory.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
    if (!root) {
        report_.problem(Error::from_errno("cannot open " + settings_.directory, errno).message);
        return false;
    }
    auto folder = VmFolder::open(root.get(), name_, path_);
    if (!folder) {
        if (folder.error().sys_errno == ENOENT) {
            ended_ = true;
        } else {
            report_.problem(folder.error().message);
        }
        return false;
    }
    folder_ = std::move(folder).value();
    if (settings_.notify && reports_changes(folder_->descriptor())) {
        watch_ = watcher_.watch(folder_->descriptor(),
                                [this] { static_cast<void>(::eventfd_write(wake_.get(), 1)); });
    }
    return true;
}

void VmServer::close_folder() {
    if (watch_ >= 0) {
        watcher_.unwatch(std::exchange(watch_, -1));
    }
    folder_.reset();
}

void VmServer::check() {
    if (folder_ && folder_->replaced(path_)) {
        close_folder();
    }
    if (!folder_ && !open_folder()) {
        return;
    }
    if (!response_.empty()) {
        write_response();
        if (!response_.empty()) {
            return;
        }
    }
    auto found = folder_->find_request();
    if (!found) {
        report_.problem(found.error().message);
        return;
    }
    if (!*found || is_blank((*found)->content)) {
        partial_.clear();
        report_.solved(path_ + ": the files can be used again");
        return;
    }
    const FoundRequest& request = **found;
    const bool whole =
        request.content.find('\n') != std::string::npos || request.content.size() > kMostFileLine;
    if (!whole && !settled(request.content)) {
        return;
    }
    partial_.clear();
    if (const auto cleared = folder_->clear(request); !cleared) {
        report_.problem(cleared.error().message + " (the request is not served)");
        return;
    }
    blocked_since_ = 0;
    response_ = serve(request.content);
    blocked_since_ = now();
    write_response();
}

bool VmServer::settled(const std::string& content) {
    if (content != partial_) {
        partial_ = content;
        partial_since_ = Steady::now();
        return false;
    }
    return Steady::now() - partial_since_ >= settings_.partial;
}

std::string VmServer::serve(const std::string& content) {
    if (!announced_) {
        announced_ = true;
        report_.info("VM " + std::to_string(vm_id_) + " uses the file protocol, in " + path_);
    }
    return serve_line(content);
}

std::string VmServer::serve_line(const std::string& content) {
    const auto refuse = [this](const std::string& why,
                               std::uint32_t code = VGPU_ERR_INVALID_REQUEST) {
        report_.warn(path_ + '/' + kRequestFile + ": " + why);
        return file_error_line(code, why);
    };
    if (content.size() > kMostFileLine) {
        return refuse("the request is longer than " + std::to_string(kMostFileLine) + " bytes");
    }
    const auto request = parse_file_request(content);
    if (!request) {
        return refuse(request.error().message);
    }
    if (request->vm_id != vm_id_) {
        return refuse("the request names VM " + std::to_string(request->vm_id) +
                      ", but this is the folder of VM " + std::to_string(vm_id_));
    }
    vgpu_failure why{};
    if (!device_ || pool_ != request->pool || priority_ != request->priority) {
        device_.reset();
        const std::string address = "unix:" + settings_.socket;
        vgpu_options options = VGPU_OPTIONS_INIT;
        options.address = address.c_str();
        options.vm_id = vm_id_;
        options.pool = request->pool;
        options.priority = request->priority;
        options.shm_size = 0;
        vgpu_device* opened = nullptr;
        if (vgpu_open(&options, &opened, &why) != VGPU_OK) {
            return refuse(why.message, VGPU_ERR_MEDIATOR_UNAVAILABLE);
        }
        device_.reset(opened);
        pool_ = request->pool;
        priority_ = request->priority;
    }
    std::uint32_t sum = 0;
    const int code = vgpu_add(device_.get(), request->a, request->b, VGPU_NO_TIMEOUT, &sum, &why);
    used_at_ = Steady::now();
    if (code == VGPU_OK) {
        return file_result_line(sum);
    }
    // The mediator has logged why it rejected or failed the request.
    return file_error_line(code > 0 && code <= kMostErrorCode
                               ? static_cast<std::uint32_t>(code)
                               : std::uint32_t{VGPU_ERR_MEDIATOR_UNAVAILABLE},
                           why.message);
}

void VmServer::write_response() {
    const auto written = folder_->write_response(response_);
    if (written) {
        response_.clear();
        report_.solved(path_ + ": the files can be used again");
    } else {
        report_.problem(written.error().message);
    }
}

}  // namespace vgpu
