// SPDX-License-Identifier: MIT
#include "files/vm_server.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <system_error>
#include <utility>

#include "base/thread.h"
#include "client/core/response.h"
#include "client/include/vgpu.h"
#include "ipc/file_line.h"

namespace vgpu {
namespace {

// Poll interval of a watched folder: for changes that are not reported, as through mmap(2).
constexpr std::chrono::milliseconds kWatchedInterval{2000};
// Checks caused by changes, per second and in a burst.
constexpr double kChecksPerSecond = 2000;
constexpr double kCheckBurst = 200;
constexpr std::chrono::milliseconds kCheckPause{1};
// Between attempts to write a response.
constexpr std::chrono::milliseconds kWriteRetry{1000};
// Attempts at a file with a lease: the pauses, and how long they are normal. The kernel has asked
// the holder to give it up, which an NFS server's clients do within a round trip.
constexpr std::chrono::milliseconds kFirstLeasePause{2};
constexpr std::chrono::milliseconds kLongestLeasePause{200};
constexpr std::chrono::seconds kNormalLease{5};
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
      checks_(kChecksPerSecond, kCheckBurst, std::chrono::nanoseconds(now())),
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
        write_response();
    }
    if (!response_.empty()) {
        report_.warn(path_ + ": a response could not be written and is lost");
    }
    close_folder();
    transport_.reset();
    link_.reset();
    ended_ = true;
}

void VmServer::sleep() {
    std::chrono::milliseconds limit = watch_ != 0 ? kWatchedInterval : settings_.interval;
    if (!partial_.empty()) {
        limit = std::min(limit, settings_.partial);
    }
    if (!response_.empty()) {
        limit = std::min(limit, kWriteRetry);
    }
    if (lease_pause_.count() > 0) {
        limit = std::min(limit, lease_pause_);
    }
    if (transport_ && Steady::now() - used_at_ > kKeepConnection) {
        transport_.reset();
        link_.reset();
    }
    pollfd wait{.fd = wake_.get(), .events = POLLIN, .revents = 0};
    if (::poll(&wait, 1, static_cast<int>(limit.count())) > 0) {
        if (!stopping_ && !checks_.take(std::chrono::nanoseconds(now()))) {
            std::this_thread::sleep_for(kCheckPause);
        }
        eventfd_t count = 0;
        static_cast<void>(::eventfd_read(wake_.get(), &count));
    }
}

bool VmServer::open_folder() {
    const Fd root(::open(settings_.directory.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
    if (!root) {
        return false;  // the scanner reports it
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
    watcher_.unwatch(std::exchange(watch_, 0));
    folder_.reset();
}

void VmServer::check() {
    if (folder_ && folder_->replaced(path_)) {
        close_folder();
    }
    if (!folder_ && !open_folder()) {
        return;
    }
    auto found = folder_->find_request();
    if (!found) {
        partial_.clear();
        report_failure(found.error());
        return;
    }
    if (!*found || is_blank((*found)->content)) {
        partial_.clear();
        if (!response_.empty()) {
            write_response();
        } else {
            lease_pause_ = std::chrono::milliseconds(0);
            report_.solved(path_ + ": the files can be used again");
        }
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
        report_failure(cleared.error(), " (the request is not served)");
        return;
    }
    lease_pause_ = std::chrono::milliseconds(0);
    if (!response_.empty()) {
        report_.warn(path_ +
                     ": the VM sent another request before the response to the last one "
                     "could be written: that response is dropped");
        response_.clear();
    }
    blocked_since_ = 0;
    response_ = serve(request.content);
    blocked_since_ = now();
    if (folder_->replaced(path_)) {
        close_folder();
        if (!open_folder()) {
            return;
        }
    }
    // A request that came meanwhile: its client would take the response for its own.
    const auto next = folder_->find_request();
    if (next && *next && !is_blank((*next)->content)) {
        report_.warn(path_ +
                     ": the VM sent another request before it had the response to the last "
                     "one: that response is dropped");
        response_.clear();
        static_cast<void>(::eventfd_write(wake_.get(), 1));
        return;
    }
    write_response();
}

void VmServer::report_failure(const Error& error, const char* more) {
    if (error.sys_errno == EWOULDBLOCK) {
        if (lease_pause_.count() == 0) {
            lease_since_ = Steady::now();
        }
        lease_pause_ = std::clamp(lease_pause_ * 2, kFirstLeasePause, kLongestLeasePause);
        if (Steady::now() - lease_since_ < kNormalLease) {
            return;
        }
    }
    report_.problem(error.message + more);
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
    const auto refuse = [this](const std::string& why) {
        report_.warn(path_ + '/' + kRequestFile + ": " + why);
        return file_error_line(VGPU_ERR_INVALID_REQUEST, why);
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
    return compute(*request);
}

std::string VmServer::compute(const FileRequest& request) {
    const auto failed = [this](const Failure& failure) {
        transport_.reset();
        link_.reset();
        report_.warn(path_ + ": " + failure.message);
        return file_error_line(VGPU_ERR_MEDIATOR_UNAVAILABLE, failure.message);
    };
    if (!transport_) {
        auto link = client::UnixLink::create(
            {.path = settings_.socket,
             .vm_id = vm_id_,
             .hello_timeout = std::chrono::milliseconds(VGPU_HELLO_TIMEOUT_MS)});
        if (!link) {
            return failed(link.failure());
        }
        link_ = std::move(*link);
        transport_ = std::make_unique<client::SocketTransport>(link_, client::WaitMode::kAuto);
    }
    link_->set_target(request.pool, request.priority);
    const std::array<std::uint32_t, 2> params{request.a, request.b};
    const auto bytes = client::encode_request({.opcode = VGPU_OP_CUDA_KERNEL,
                                               .flags = 0,
                                               .params = params.data(),
                                               .param_count = params.size(),
                                               .data = nullptr,
                                               .data_length = 0});
    const auto sent = bytes ? transport_->submit(*bytes) : Expected<std::uint32_t>(bytes.failure());
    if (!sent) {
        return failed(sent.failure());
    }
    const auto completion = transport_->wait(client::kNever);
    used_at_ = Steady::now();
    if (!completion) {
        return failed(completion.failure());
    }
    const auto reply = client::decode_completion(*completion);
    if (!reply) {
        // The mediator has logged why it rejected or failed the request.
        const int code = reply.failure().code;
        return file_error_line(code > 0 && code <= kMostErrorCode
                                   ? static_cast<std::uint32_t>(code)
                                   : std::uint32_t{VGPU_ERR_MEDIATOR_UNAVAILABLE},
                               reply.failure().message);
    }
    if (reply->result_count < 1) {
        return file_error_line(VGPU_ERR_CUDA, "the response of the mediator has no result");
    }
    return file_result_line(reply->results[0]);
}

void VmServer::write_response() {
    if (!folder_) {
        return;
    }
    const auto written = folder_->write_response(response_);
    if (written) {
        response_.clear();
        lease_pause_ = std::chrono::milliseconds(0);
        report_.solved(path_ + ": the files can be used again");
    } else {
        report_failure(written.error());
    }
}

}  // namespace vgpu
