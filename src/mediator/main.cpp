// SPDX-License-Identifier: MIT
//
// vgpu-mediator: puts the parts together. Everything is made here, handed to whoever needs it, and
// gone when main() returns; exceptions end here, as one sentence and exit status 1.
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <boost/asio/io_context.hpp>
#include <boost/asio/signal_set.hpp>
#include <csignal>
#include <cstdio>
#include <exception>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "mediator/backends.h"
#include "mediator/counters.h"
#include "mediator/event_log.h"
#include "mediator/mediator.h"
#include "mediator/options.h"
#include "mediator/reload.h"

namespace vgpu {
namespace {

// Calls `handle` for each arrival of a signal of `signals`.
void on_signal(boost::asio::signal_set& signals, std::function<void(int)> handle) {
    signals.async_wait(
        [&signals, handle = std::move(handle)](const boost::system::error_code& error, int number) {
            if (!error) {
                handle(number);
                on_signal(signals, handle);
            }
        });
}

// Reads options and file again. What is wrong with them has been printed when this says so.
void reload(int argc, const char* const* argv, Config& config, Mediator& mediator,
            spdlog::logger& log) {
    ParsedOptions parsed = parse_options(argc, argv);
    if (!parsed.options) {
        log.error("the configuration is kept as it was, because the new one is wrong");
        return;
    }
    Config next = std::move(parsed.options->config);
    for (const std::string& name : keep_what_cannot_change(config, next)) {
        log.warn("'{}' differs in the file; that takes effect with the next start", name);
    }
    config = std::move(next);
    log.set_level(spdlog::level::from_str(config.log_level));
    mediator.apply(config.mediator);
    log.info("configuration reloaded");
}

int run(Config config, int argc, const char* const* argv) {
    const auto log = std::make_shared<spdlog::logger>(
        "mediator", std::make_shared<spdlog::sinks::stderr_sink_st>());
    log->set_pattern("%Y-%m-%d %H:%M:%S.%e %l: %v");
    log->set_level(spdlog::level::from_str(config.log_level));
    log->flush_on(spdlog::level::trace);
    // A peer that is gone is an error code of send(), not a signal.
    static_cast<void>(std::signal(SIGPIPE, SIG_IGN));

    auto backends = make_backends(config, *log);
    if (!backends) {
        complain(backends.error().message);
        return kExitFailure;
    }
    const SteadyClock clock;
    Counters counters;
    EventLog event_log(log, {config.log_lines_per_second, config.log_burst}, clock);
    EventFanOut events({&counters, &event_log});
    boost::asio::io_context io(1);
    const std::string devices = device_names(*backends);
    Mediator mediator(io, config.mediator, std::move(backends).value(), events, clock);

    boost::asio::signal_set stop_signals(io, SIGTERM, SIGINT);
    on_signal(stop_signals, [&](int number) {
        log->info("got {}, stopping", number == SIGTERM ? "SIGTERM" : "SIGINT");
        mediator.begin_shutdown();
    });
    boost::asio::signal_set report_signals(io, SIGUSR1);
    const auto report = [&] { static_cast<void>(std::fputs(counters.table().c_str(), stderr)); };
    on_signal(report_signals, [&](int) { report(); });

    boost::asio::signal_set reload_signals(io, SIGHUP);
    on_signal(reload_signals, [&](int) { reload(argc, argv, config, mediator, *log); });

    std::string paths;
    for (const std::string& path : config.sockets) {
        auto listener = UnixListener::create(path);
        if (!listener) {
            complain(listener.error().message);
            return kExitFailure;
        }
        mediator.add_listener(std::move(listener).value());
        paths += (paths.empty() ? "" : ", ") + path;
    }
    std::string pools;
    for (const PoolSettings& pool : config.mediator.pools) {
        pools += (pools.empty() ? "" : ",") + std::string(1, pool.id);
    }
    log->info("ready: listening on {}, pools {}, backend {}, device {}", paths, pools,
              mediator.device(0).backend == VGPU_BACKEND_CUDA ? "cuda" : "cpu", devices);
    mediator.run();
    report();
    log->info("stopped");
    return 0;
}

}  // namespace
}  // namespace vgpu

int main(int argc, char** argv) {
    try {
        const vgpu::ParsedOptions parsed = vgpu::parse_options(argc, argv);
        if (!parsed.options) {
            return parsed.exit_status;
        }
        if (parsed.options->check_only) {
            static_cast<void>(std::puts("configuration is good"));
            return 0;
        }
        return vgpu::run(parsed.options->config, argc, argv);
    } catch (const std::exception& error) {
        vgpu::complain(error.what());
        return vgpu::kExitFailure;
    }
}
