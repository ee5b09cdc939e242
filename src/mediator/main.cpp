// SPDX-License-Identifier: MIT
//
// vgpu-mediator: creates the components and connects them. Objects are passed to their users and
// destroyed when main() returns; exceptions end here, as one error text and exit status 1. Started
// with --gpu-worker, it is the process that drives one GPU for a mediator; with --file-gateway, the
// one that serves the old file protocol.
#include <fcntl.h>
#include <fmt/format.h>
#include <spdlog/spdlog.h>
#include <sys/eventfd.h>
#include <sys/resource.h>

#include <algorithm>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/signal_set.hpp>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/fd.h"
#include "base/program.h"
#include "executor/worker/worker.h"
#include "files/file_gateway.h"
#include "mediator/admin/api.h"
#include "mediator/admin/mediator_control.h"
#include "mediator/admin/metrics.h"
#include "mediator/admin/server.h"
#include "mediator/config/access.h"
#include "mediator/config/names.h"
#include "mediator/config/options.h"
#include "mediator/config/reload.h"
#include "mediator/devices/backends.h"
#include "mediator/events/counters.h"
#include "mediator/events/event_log.h"
#include "mediator/events/log_output.h"
#include "mediator/files/file_service.h"
#include "mediator/loop/mediator.h"
#include "mediator/service.h"

namespace vgpu {
namespace {

// Calls `handle` for each signal of `signals`.
void on_signal(boost::asio::signal_set& signals, std::function<void(int)> handle) {
    signals.async_wait(
        [&signals, handle = std::move(handle)](const boost::system::error_code& error, int number) {
            if (!error) {
                handle(number);
                on_signal(signals, handle);
            }
        });
}

// Number of changes logged with a line each; further ones are only counted.
constexpr std::size_t kMostChangesLogged = 50;

// Re-reads options and file, and applies them.
Result<ReloadOutcome, ConfigError> try_reload(int argc, const char* const* argv,
                                              const std::string& config_path, Config& config,
                                              Mediator& mediator) {
    ParsedOptions parsed = parse_options(argc, argv);
    if (!parsed.options) {
        return ConfigError{.message = parsed.error, .line = parsed.error_line};
    }
    Config next = std::move(parsed.options->config);
    if (const auto good = refuse_emptied(config, next, config_path); !good) {
        return ConfigError{.message = good.error().message, .line = std::nullopt};
    }
    ReloadOutcome outcome;
    outcome.changed = changes_of_file(config, next);
    outcome.not_applied = keep_what_cannot_change(config, next);
    mediator.apply(next.mediator);
    config = std::move(next);
    return outcome;
}

// Errors in options and file are logged and never end the mediator.
ReloadOutcome reload(int argc, const char* const* argv, const std::string& config_path,
                     Config& config, Mediator& mediator, spdlog::logger& log) {
    const auto kept = [&](const ConfigError& why) -> ReloadOutcome {
        log.error("reload failed, the previous configuration stays in effect: {}", why.message);
        return {.changed = {}, .not_applied = {}, .error = why.message, .line = why.line};
    };
    try {
        auto outcome = try_reload(argc, argv, config_path, config, mediator);
        if (!outcome) {
            return kept(outcome.error());
        }
        log.set_level(spdlog::level::from_str(config.log_level));
        std::size_t left = outcome->changed.size();
        for (const std::string& change : outcome->changed) {
            if (outcome->changed.size() - left == kMostChangesLogged) {
                log.info("configuration: {} more settings differ", left);
                break;
            }
            log.info("configuration: {}", change);
            --left;
        }
        for (const std::string& name : outcome->not_applied) {
            log.warn("'{}' differs in the file; the change takes effect after a restart", name);
        }
        log.info("configuration reloaded");
        return std::move(outcome).value();
    } catch (const std::exception& error) {
        return kept({.message = error.what(), .line = std::nullopt});
    }
}

// The admin API and its server.
struct Admin {
    Admin(MediatorControl::Parts parts, const Metrics& metrics, EventStream& events,
          EventSink& notices, boost::asio::io_context& io, const Clock& clock, const Config& config)
        : control(std::move(parts)),
          api(control, metrics),
          server(io, api, events, clock,
                 {.allowed_users = config.allowed_users, .notices = &notices}) {}

    MediatorControl control;
    AdminApi api;
    AdminServer server;
};

// Opens the listeners that the configuration names. Returns their text for the ready line.
Result<std::string> open_doors(AdminServer& server, InheritedSockets& inherited,
                               const Config& config) {
    std::string said;
    if (const std::string path = admin_socket_of(config); !path.empty()) {
        auto listener =
            inherited.open({.path = path, .option = "--admin-socket", .group = kDefaultGroup});
        if (!listener) {
            return listener.error();
        }
        if (const auto open = server.listen(std::move(listener).value()); !open) {
            return open.error();
        }
        said += fmt::format(", admin {}", path);
    }
    if (!config.metrics_listen.empty()) {
        const auto address = parse_loopback(config.metrics_listen);
        if (!address) {
            return address.error();
        }
        const auto port = server.listen_metrics(*address);
        if (!port) {
            return port.error();
        }
        const bool ipv6 = address->host.find(':') != std::string::npos;
        said += fmt::format(", metrics {}{}{}:{}", ipv6 ? "[" : "", address->host, ipv6 ? "]" : "",
                            *port);
    }
    return said;
}

// Entries of the descriptor table from the start: 8 bytes each.
constexpr rlim_t kGrownTable = 65536;

// Raises the descriptor limit to the maximum, because each queue of each device takes two. The
// default of 1024 is due to select(2), which is not used here.
void allow_many_descriptors() {
    rlimit limit{};
    if (::getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        static_cast<void>(::setrlimit(RLIMIT_NOFILE, &limit));
    }
    // Grow the descriptor table while there is one thread: the kernel makes a thread that grows the
    // table of several wait for an RCU grace period, some 10 to 30 ms, and it never shrinks.
    const Fd any(::eventfd(0, EFD_CLOEXEC));
    const auto most = std::min<rlim_t>(limit.rlim_cur, kGrownTable);
    static_cast<void>(Fd(::fcntl(any.get(), F_DUPFD_CLOEXEC, static_cast<int>(most) - 1)));
}

int run(Config config, const std::string& config_path, int argc, const char* const* argv) {
    // Sending to a disconnected peer is an error code of send(), not a signal.
    static_cast<void>(std::signal(SIGPIPE, SIG_IGN));
    allow_many_descriptors();
    auto inherited = InheritedSockets::create();
    if (!inherited) {
        complain(inherited.error().message);
        return kExitFailure;
    }
    const LogOutput output = open_log(config, std::getenv("JOURNAL_STREAM"));
    const std::shared_ptr<spdlog::logger>& log = output.logger;

    auto backends = make_backends(config, *log);
    if (!backends) {
        complain(backends.error().message);
        return kExitFailure;
    }
    const SteadyClock clock;
    Counters counters;
    EventLog event_log(log, {config.log_lines_per_second, config.log_burst}, clock, output.journal);
    std::vector<char> pool_ids;
    for (const PoolSettings& pool : config.mediator.pools) {
        pool_ids.push_back(pool.id);
    }
    Metrics metrics(pool_ids);
    EventStream stream;
    const bool administered = !admin_socket_of(config).empty() || !config.metrics_listen.empty();
    EventFanOut events(administered
                           ? std::vector<EventSink*>{&counters, &event_log, &metrics, &stream}
                           : std::vector<EventSink*>{&counters, &event_log});
    boost::asio::io_context io(1);
    const std::string devices = device_names(*backends);
    Mediator mediator(io, config.mediator, std::move(backends).value(), events, clock);

    FileService files(io, events,
                      file_gateway_arguments({.directory = config.files.directory,
                                              .socket = config.sockets.front(),
                                              .interval = config.files.interval,
                                              .notify = config.files.notify,
                                              .partial = config.files.partial}),
                      [&](pid_t pid) { mediator.set_file_gateway(pid); });
    ServiceManager service(io);
    const auto begin_stop = [&] {
        service.stopping(config.mediator.drain_timeout);
        files.begin_shutdown();
    };

    boost::asio::signal_set stop_signals(io, SIGTERM, SIGINT);
    on_signal(stop_signals, [&](int number) {
        log->info("received {}, stopping", number == SIGTERM ? "SIGTERM" : "SIGINT");
        begin_stop();
        mediator.begin_shutdown();
    });
    boost::asio::signal_set report_signals(io, SIGUSR1);
    const auto report = [&] { output.standard_error->push({counters.table()}); };
    on_signal(report_signals, [&](int) { report(); });

    boost::asio::signal_set reload_signals(io, SIGHUP);
    std::string served;  // for the ready line
    const auto reload_now = [&] {
        service.reloading();
        ReloadOutcome outcome = reload(argc, argv, config_path, config, mediator, *log);
        service.ready(outcome.error.empty() ? served : "reload failed: " + outcome.error);
        return outcome;
    };
    on_signal(reload_signals, [&](int) { static_cast<void>(reload_now()); });

    std::string paths;
    for (const std::string& path : config.sockets) {
        auto listener = inherited->open({.path = path,
                                         .option = "--socket",
                                         .mode = config.socket_mode,
                                         .group = config.socket_group});
        if (!listener) {
            complain(listener.error().message);
            return kExitFailure;
        }
        mediator.add_listener(std::move(listener).value());
        paths += (paths.empty() ? "" : ", ") + path;
    }
    Admin admin({.mediator = mediator,
                 .counters = counters,
                 .events = events,
                 .clock = clock,
                 .sockets = config.sockets,
                 .config_file = config_path,
                 .only_gpu = config.device,
                 .reload = reload_now,
                 .before_drain = begin_stop,
                 .suppressed_lines = [&event_log] { return event_log.suppressed(); }},
                metrics, stream, events, io, clock, config);
    const auto doors = open_doors(admin.server, *inherited, config);
    if (!doors) {
        complain(doors.error().message);
        return kExitFailure;
    }
    if (const auto used = inherited->expect_none_left(); !used) {
        complain(used.error().message);
        return kExitFailure;
    }
    std::string shared;
    if (!config.files.directory.empty()) {
        // In the loop, which starts threads of its own first: the gateway may use up a limit.
        boost::asio::post(io, [&files] { files.start(); });
        shared = ", files " + config.files.directory;
    }
    std::string pools;
    for (const PoolSettings& pool : config.mediator.pools) {
        pools += (pools.empty() ? "" : ",") + std::string(1, pool.id);
    }
    served = fmt::format("listening on {}, pools {}, backend {}, device {}{}{}", paths, pools,
                         backend_text(mediator.device(0).backend), devices, *doors, shared);
    log->info("ready: {}", served);
    service.ready(served);
    mediator.run();
    files.finish();
    // Asio restores the default signal actions: a further signal must not kill the process.
    sigset_t all;
    sigfillset(&all);
    ::pthread_sigmask(SIG_BLOCK, &all, nullptr);
    report();
    log->info("stopped");
    return 0;
}

}  // namespace
}  // namespace vgpu

int main(int argc, char** argv) {
    return vgpu::program::run("vgpu-mediator", [&] {
        if (argc > 1 && std::string_view(argv[1]) == vgpu::worker::kWorkerArgument) {
            return vgpu::worker::cuda_worker_main(argc, argv);
        }
        if (argc > 1 && std::string_view(argv[1]) == vgpu::kFileGatewayArgument) {
            return vgpu::file_gateway_main(argc, argv);
        }
        const vgpu::ParsedOptions parsed = vgpu::parse_options(argc, argv);
        if (!parsed.options) {
            if (!parsed.error.empty()) {
                vgpu::complain(parsed.error);
            }
            return parsed.exit_status;
        }
        return vgpu::run(parsed.options->config, parsed.options->config_path, argc, argv);
    });
}
