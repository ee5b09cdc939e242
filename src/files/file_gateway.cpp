// SPDX-License-Identifier: MIT
#include "files/file_gateway.h"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <condition_variable>
#include <csignal>
#include <cstdio>
#include <map>
#include <mutex>
#include <set>
#include <string_view>
#include <system_error>
#include <thread>
#include <unordered_map>
#include <utility>

#include "base/child_process.h"
#include "base/folder_claim.h"
#include "base/number.h"
#include "base/thread.h"
#include "ipc/file_line.h"
#include "sched/token_bucket.h"

namespace vgpu {
namespace {

constexpr int kControl = ChildProcess::kFirstDescriptor;
// Maximum number of VMs, each with a thread.
constexpr std::size_t kMostVms = 1024;
constexpr std::chrono::milliseconds kShortestScan{1000};
constexpr std::chrono::seconds kSlowFileSystem{10};
constexpr std::chrono::milliseconds kTick{1000};
constexpr std::chrono::milliseconds kEndTick{10};
// Time for the current requests once the mediator has disconnected.
constexpr std::chrono::seconds kPatience{1};
// Not IN_CLOSE_WRITE: a write is IN_MODIFY already.
constexpr std::uint32_t kChanges =
    IN_MODIFY | IN_MOVED_TO | IN_CREATE | IN_DELETE_SELF | IN_MOVE_SELF | IN_ONLYDIR;
// Reads of inotify events, per second and in a burst.
constexpr double kReadsPerSecond = 1000;
constexpr double kReadBurst = 100;
constexpr std::chrono::milliseconds kReadPause{1};
// Between two scans of the share, at least.
constexpr std::chrono::milliseconds kScanPause{100};

std::chrono::nanoseconds now() {
    return std::chrono::steady_clock::now().time_since_epoch();
}

// One inotify instance for all VMs: their number per user is limited.
class Inotify final : public FolderWatcher {
  public:
    Inotify() : fd_(::inotify_init1(IN_CLOEXEC | IN_NONBLOCK)) {}

    // -1 if there is no inotify.
    [[nodiscard]] int descriptor() const { return fd_.get(); }

    Watch watch(int folder, std::function<void()> changed) override {
        const std::lock_guard lock(mutex_);
        // The same number for each call with the same folder.
        const int number = ::inotify_add_watch(
            fd_.get(), ("/proc/self/fd/" + std::to_string(folder)).c_str(), kChanges);
        if (number < 0) {
            return 0;
        }
        watches_[++last_] = {.number = number, .changed = std::move(changed)};
        return last_;
    }

    void unwatch(Watch watch) override {
        const std::lock_guard lock(mutex_);
        const auto found = watches_.find(watch);
        if (found == watches_.end()) {
            return;
        }
        const int number = found->second.number;
        watches_.erase(found);
        if (std::none_of(watches_.begin(), watches_.end(),
                         [number](const auto& other) { return other.second.number == number; })) {
            static_cast<void>(::inotify_rm_watch(fd_.get(), number));
        }
    }

    // Reads pending events and calls those who wait for them.
    void dispatch() {
        alignas(inotify_event) std::array<char, 8192> bytes{};
        const ssize_t size = ::read(fd_.get(), bytes.data(), bytes.size());
        std::set<int> seen;
        for (ssize_t at = 0; at < size;) {
            const auto* const event = reinterpret_cast<const inotify_event*>(bytes.data() + at);
            seen.insert(event->wd);
            at += static_cast<ssize_t>(sizeof(inotify_event) + event->len);
        }
        const std::lock_guard lock(mutex_);
        for (const auto& [id, one] : watches_) {
            // -1: events were lost.
            if (seen.contains(one.number) || seen.contains(-1)) {
                one.changed();
            }
        }
    }

  private:
    struct Entry {
        int number = -1;  // inotify's
        std::function<void()> changed;
    };

    Fd fd_;
    std::mutex mutex_;
    Watch last_ = 0;
    std::unordered_map<Watch, Entry> watches_;
};

// Number of VMs that the limit of open files allows: each needs a connection, an eventfd and its
// folder, and three more files during a check.
std::size_t most_vms() {
    constexpr rlim_t kOwn = 32;
    constexpr rlim_t kEach = 6;
    rlimit limit{};
    if (::getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) {
        return kMostVms;
    }
    const rlim_t left = limit.rlim_cur > kOwn ? limit.rlim_cur - kOwn : 0;
    return std::clamp<std::size_t>(left / kEach, 1, kMostVms);
}

struct CloseDir {
    void operator()(DIR* dir) const { static_cast<void>(::closedir(dir)); }
};

class Gateway {
  public:
    explicit Gateway(FileGatewaySettings settings)
        : settings_(std::move(settings)), reporter_(kControl), report_(reporter_) {}

    void run() {
        std::thread scanner = start_thread([this] { scan_until_stopped(); });
        serve_until_told();
        {
            const std::lock_guard lock(mutex_);
            stopping_ = true;
            for (const auto& [id, server] : servers_) {
                server->stop();
            }
        }
        changed_.notify_all();
        if (!wait_for_the_end()) {
            // A thread is blocked in a file system; nothing but the end of the process frees it.
            std::_Exit(0);
        }
        scanner.join();
    }

  private:
    // Returns when the mediator shuts down its end.
    void serve_until_told() {
        std::array<pollfd, 2> waits{
            {{.fd = kControl, .events = POLLIN, .revents = 0},
             {.fd = watcher_.descriptor(), .events = POLLIN, .revents = 0}}};
        auto checked_at = now();
        TokenBucket reads(kReadsPerSecond, kReadBurst, checked_at);
        for (;;) {
            if (::poll(waits.data(), waits.size(), static_cast<int>(kTick.count())) < 0 &&
                errno != EINTR) {
                return;
            }
            if (waits[0].revents != 0) {
                return;
            }
            if (waits[1].revents != 0) {
                watcher_.dispatch();
                if (!reads.take(now())) {
                    std::this_thread::sleep_for(kReadPause);
                }
            }
            if (now() - checked_at >= kTick) {
                checked_at = now();
                report_slow_file_systems();
            }
        }
    }

    // Returns false if a thread does not end although nothing can be answered any more.
    bool wait_for_the_end() {
        pollfd wait{.fd = kControl, .events = 0, .revents = 0};
        std::chrono::nanoseconds disconnected_at{0};
        for (;;) {
            {
                const std::lock_guard lock(mutex_);
                if (scanner_ended_ &&
                    std::all_of(servers_.begin(), servers_.end(),
                                [](const auto& entry) { return entry.second->ended(); })) {
                    return true;
                }
            }
            const bool gone = ::poll(&wait, 1, 0) > 0 && (wait.revents & POLLHUP) != 0;
            if (gone && disconnected_at.count() == 0) {
                disconnected_at = now();
            }
            if (gone && now() - disconnected_at > kPatience) {
                return false;
            }
            std::this_thread::sleep_for(kEndTick);
        }
    }

    void report_slow(const std::string& path) {
        reporter_.send(FileNotice::kWarning, path + ": the file system has not answered for " +
                                                 std::to_string(kSlowFileSystem.count()) +
                                                 " s; if it is an NFS mount, check its server");
    }
    void report_answering(const std::string& path) {
        reporter_.send(FileNotice::kInfo, path + ": the file system answers");
    }

    void report_slow_file_systems() {
        const std::lock_guard lock(mutex_);
        for (const auto& [id, server] : servers_) {
            const auto since = server->blocked_since();
            const bool slow = since && now() - *since > kSlowFileSystem;
            if (slow && slow_.insert(id).second) {
                report_slow(server->path());
            } else if (!slow && slow_.erase(id) > 0) {
                report_answering(server->path());
            }
        }
        const bool slow = scanning_since_ && now() - *scanning_since_ > kSlowFileSystem;
        const bool was_slow = std::exchange(scan_slow_, slow);
        if (slow && !was_slow) {
            report_slow(settings_.directory);
        } else if (!slow && was_slow) {
            report_answering(settings_.directory);
        }
    }

    void scan_until_stopped() {
        std::unique_lock lock(mutex_);
        while (!stopping_) {
            scanning_since_ = now();
            lock.unlock();
            auto ids = scan();
            lock.lock();
            scanning_since_.reset();
            update(ids, lock);
            // Without the folder, look for it each second, whatever the interval is.
            changed_.wait_for(lock,
                              ids ? std::max(kShortestScan, settings_.interval) : kShortestScan,
                              [this] { return stopping_ || folder_changed_; });
            changed_.wait_for(lock, kScanPause, [this] { return stopping_; });
            folder_changed_ = false;
        }
        lock.unlock();
        watcher_.unwatch(root_watch_);
        lock.lock();
        scanner_ended_ = true;
    }

    // Returns the VMs that have a folder; nothing if that cannot be found out.
    std::optional<std::set<std::uint32_t>> scan() {
        const std::unique_ptr<DIR, CloseDir> dir(::opendir(settings_.directory.c_str()));
        if (!dir) {
            report_.problem(Error::from_errno("cannot read the folder " + settings_.directory +
                                                  " of the file protocol ([files] directory)",
                                              errno)
                                .message);
            return std::nullopt;
        }
        if (!claim_root(::dirfd(dir.get()))) {
            report_.problem("another mediator on this host serves the files in " +
                            settings_.directory + ": stop one of them, or change its [files]");
            return std::nullopt;
        }
        watch_root(::dirfd(dir.get()));
        std::set<std::uint32_t> ids;
        for (;;) {
            errno = 0;
            const dirent* const entry = ::readdir(dir.get());
            if (entry == nullptr) {
                break;
            }
            std::uint32_t id = 0;
            if (parse_vm_folder(entry->d_name, id)) {
                ids.insert(id);
            }
        }
        if (errno != 0) {
            report_.problem(
                Error::from_errno("cannot read the folder " + settings_.directory, errno).message);
            return std::nullopt;
        }
        report_.solved(settings_.directory + ": the folder can be read again");
        return ids;
    }

    // Watches the folder that has the configured path now.
    void watch_root(int folder) {
        if (!settings_.notify) {
            return;
        }
        const auto before = root_watch_;
        root_watch_ = watcher_.watch(folder, [this] {
            const std::lock_guard lock(mutex_);
            folder_changed_ = true;
            changed_.notify_all();
        });
        watcher_.unwatch(before);
    }

    // Claims the folder that has the configured path now. Returns false if another gateway has it.
    bool claim_root(int folder) {
        struct stat info {};
        if (::fstat(folder, &info) != 0) {
            return false;
        }
        if (claim_ && info.st_ino == root_inode_ && info.st_dev == root_device_) {
            return true;
        }
        claim_ = claim_folder("vgpu-file-gateway", folder);
        root_inode_ = info.st_ino;
        root_device_ = info.st_dev;
        return static_cast<bool>(claim_);
    }

    // Joins threads that have ended, and starts one for each new folder.
    void update(const std::optional<std::set<std::uint32_t>>& ids,
                std::unique_lock<std::mutex>& lock) {
        std::vector<std::unique_ptr<VmServer>> ended;
        for (auto at = servers_.begin(); at != servers_.end();) {
            if (at->second->ended()) {
                ended.push_back(std::move(at->second));
                slow_.erase(at->first);
                at = servers_.erase(at);
            } else {
                ++at;
            }
        }
        lock.unlock();
        ended.clear();
        lock.lock();
        for (const std::uint32_t id : ids.value_or(std::set<std::uint32_t>{})) {
            if (stopping_) {
                return;
            }
            if (servers_.contains(id)) {
                continue;
            }
            if (servers_.size() >= most_vms_) {
                report_.problem(
                    settings_.directory + " has folders of more than " + std::to_string(most_vms_) +
                    " VMs, which is all that can be served" +
                    (most_vms_ < kMostVms ? " with this limit of open files: raise LimitNOFILE"
                                          : "") +
                    "; the first that is not is " + vm_folder_name(id));
                return;
            }
            try {
                servers_.emplace(id,
                                 std::make_unique<VmServer>(settings_, id, reporter_, watcher_));
            } catch (const std::system_error& error) {
                report_.problem(std::string("not all VMs can use files: ") + error.what());
                return;
            }
        }
    }

    FileGatewaySettings settings_;
    Reporter reporter_;
    VmReporter report_;  // of the scanner
    Inotify watcher_;
    // Of the scanner.
    const std::size_t most_vms_ = most_vms();
    FolderWatcher::Watch root_watch_ = 0;
    Fd claim_;
    ino_t root_inode_ = 0;  // of claim_
    dev_t root_device_ = 0;

    std::mutex mutex_;  // of the members below
    std::condition_variable changed_;
    bool stopping_ = false;
    bool folder_changed_ = false;
    bool scanner_ended_ = false;
    bool scan_slow_ = false;
    std::optional<std::chrono::nanoseconds> scanning_since_;
    std::set<std::uint32_t> slow_;
    std::map<std::uint32_t, std::unique_ptr<VmServer>> servers_;
};

}  // namespace

std::vector<std::string> file_gateway_arguments(const FileGatewaySettings& settings) {
    return {kFileGatewayArgument,
            settings.directory,
            settings.socket,
            std::to_string(settings.interval.count()),
            settings.notify ? "notify" : "poll",
            std::to_string(settings.partial.count())};
}

int file_gateway_main(int argc, const char* const* argv) {
    constexpr int kArguments = 7;
    const auto interval = argc == kArguments ? parse_number(argv[4]) : std::nullopt;
    const auto partial = argc == kArguments ? parse_number(argv[6]) : std::nullopt;
    struct stat control {};
    if (!interval || !partial || ::fstat(kControl, &control) != 0 || !S_ISSOCK(control.st_mode)) {
        static_cast<void>(std::fprintf(
            stderr, "vgpu-file-gateway: this process is started by vgpu-mediator, with [files]\n"));
        return 2;
    }
    static_cast<void>(std::signal(SIGPIPE, SIG_IGN));
    static_cast<void>(::prctl(PR_SET_NAME, "vgpu-files"));
    // Not inherited by anything this process might start.
    static_cast<void>(::fcntl(kControl, F_SETFD, FD_CLOEXEC));
    Gateway gateway({.directory = argv[2],
                     .socket = argv[3],
                     .interval = std::chrono::milliseconds(*interval),
                     .notify = std::string_view(argv[5]) == "notify",
                     .partial = std::chrono::milliseconds(*partial)});
    gateway.run();
    return 0;
}

}  // namespace vgpu
