// SPDX-License-Identifier: MIT
#include "mediator/config/config.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <fstream>

#include "mediator/config/reload.h"
#include "support/temp_dir.h"

namespace vgpu {
namespace {

std::string ids_of(const std::vector<PoolSettings>& pools) {
    std::string ids;
    for (const PoolSettings& pool : pools) {
        ids += pool.id;
    }
    return ids;
}

TEST(ParsePools, TakesLettersWithAndWithoutCommas) {
    EXPECT_EQ(ids_of(parse_pools("A").value()), "A");
    EXPECT_EQ(ids_of(parse_pools("A,b,Z").value()), "AbZ");
    EXPECT_EQ(ids_of(parse_pools("Ab").value()), "Ab");
}

TEST(ParsePools, RefusesTheRest) {
    for (const char* const text : {"", ",", "A,", ",A", "A,,B", "A,A", "1", "A B", "Ä"}) {
        EXPECT_FALSE(parse_pools(text)) << text;
    }
}

// The example lists every key with its default: loading it over other values restores the defaults.
TEST(ConfigFile, TheExampleHoldsTheDefaults) {
    const Config defaults;
    Config config;
    config.sockets = {"/elsewhere"};
    config.socket_group = "elsewhere";
    config.socket_mode = 0600;
    config.backend = BackendChoice::kCpu;
    config.device = 5;
    config.log_level = "error";
    config.log_target = LogTarget::kStderr;
    config.log_lines_per_second = 1;
    config.log_burst = 1;
    config.admin_socket = "/elsewhere";
    config.allowed_users = {1};
    config.metrics_listen = "127.0.0.1:1";
    config.mediator.pools = {{.id = 'Q', .devices = {0}, .policy = {}}};
    config.mediator.allow_duplicate_vm_id = true;
    config.mediator.registered_vms_only = true;
    config.mediator.max_connections = 1;
    config.mediator.max_connections_per_process = 1;
    config.mediator.message_timeout = std::chrono::milliseconds(1);
    config.mediator.max_unsent_bytes = 1;
    config.mediator.queue = {.per_pool = 1, .per_vm = 1};
    config.mediator.memory_per_vm = 1;
    config.mediator.vm_default.limits = {.requests_per_second = 9,
                                         .burst = 9,
                                         .gpu_time = std::chrono::milliseconds(9),
                                         .gpu_window = std::chrono::milliseconds(9),
                                         .quarantine_after_faults = 9,
                                         .longest_execution = std::chrono::milliseconds(9)};
    config.mediator.slots = 9;
    config.mediator.recovery_wait = std::chrono::milliseconds(1);
    config.mediator.kill_overrun = true;
    config.mediator.queues_enabled = false;
    config.mediator.queues_memory_max = 1;
    config.mediator.queues_pipeline = 9;
    config.mediator.spin = std::chrono::microseconds(1);
    config.mediator.drain_timeout = std::chrono::milliseconds(1);
    const auto loaded = load_config_file(VGPU_EXAMPLE_CONFIG, config);
    ASSERT_TRUE(loaded) << loaded.error().message;
    EXPECT_EQ(config.sockets, defaults.sockets);
    EXPECT_EQ(config.socket_group, defaults.socket_group);
    EXPECT_EQ(config.socket_mode, defaults.socket_mode);
    EXPECT_EQ(config.backend, defaults.backend);
    EXPECT_EQ(config.device, defaults.device);
    EXPECT_EQ(config.log_level, defaults.log_level);
    EXPECT_EQ(config.log_target, defaults.log_target);
    EXPECT_EQ(config.log_lines_per_second, defaults.log_lines_per_second);
    EXPECT_EQ(config.log_burst, defaults.log_burst);
    EXPECT_EQ(admin_socket_of(config), admin_socket_of(defaults));
    EXPECT_EQ(config.allowed_users, defaults.allowed_users);
    EXPECT_EQ(config.metrics_listen, defaults.metrics_listen);
    const Settings& settings = config.mediator;
    EXPECT_EQ(ids_of(settings.pools), ids_of(defaults.mediator.pools));
    EXPECT_EQ(settings.allow_duplicate_vm_id, defaults.mediator.allow_duplicate_vm_id);
    EXPECT_EQ(settings.registered_vms_only, defaults.mediator.registered_vms_only);
    EXPECT_EQ(settings.max_connections, defaults.mediator.max_connections);
    EXPECT_EQ(settings.max_connections_per_process, kDefaultConnectionsPerProcess);
    EXPECT_EQ(settings.message_timeout, defaults.mediator.message_timeout);
    EXPECT_EQ(settings.max_unsent_bytes, defaults.mediator.max_unsent_bytes);
    EXPECT_EQ(settings.queue.per_pool, defaults.mediator.queue.per_pool);
    EXPECT_EQ(settings.queue.per_vm, defaults.mediator.queue.per_vm);
    EXPECT_EQ(settings.memory_per_vm, defaults.mediator.memory_per_vm);
    EXPECT_EQ(settings.vm_default.limits, defaults.mediator.vm_default.limits);
    EXPECT_TRUE(settings.vms.empty());
    for (const PoolSettings& pool : settings.pools) {
        EXPECT_EQ(pool.policy, PoolPolicy());
    }
    EXPECT_EQ(settings.slots, defaults.mediator.slots);
    EXPECT_EQ(settings.recovery_wait, defaults.mediator.recovery_wait);
    EXPECT_EQ(settings.kill_overrun, defaults.mediator.kill_overrun);
    EXPECT_EQ(settings.queues_enabled, defaults.mediator.queues_enabled);
    EXPECT_EQ(settings.queues_memory_max, defaults.mediator.queues_memory_max);
    EXPECT_EQ(settings.queues_pipeline, defaults.mediator.queues_pipeline);
    EXPECT_EQ(settings.spin, defaults.mediator.spin);
    EXPECT_EQ(settings.drain_timeout, defaults.mediator.drain_timeout);
}

TEST(ConfigFile, SaysWhoMayConnect) {
    const test::TempDir dir;
    std::ofstream(dir.file("c")) << R"(
[mediator]
socket_group = "0"
socket_mode = "0666"
[[vm]]
id = 7
user = "root"
[[vm]]
id = 8
user = 1234
)";
    Config config;
    const auto loaded = load_config_file(dir.file("c"), config);
    ASSERT_TRUE(loaded) << loaded.error().message;
    EXPECT_EQ(config.socket_group, "0");
    EXPECT_EQ(config.socket_mode, 0666U);
    EXPECT_EQ(config.mediator.vm(7).user, uid_t{0});
    EXPECT_EQ(config.mediator.vm(8).user, uid_t{1234});
    EXPECT_FALSE(config.mediator.vm(9).user);
}

TEST(ConfigFile, RefusesModesAndGroupsThatCannotBe) {
    const test::TempDir dir;
    for (const char* const line :
         {"socket_mode = \"0777\"", "socket_mode = \"660 \"", "socket_mode = \"0460\"",
          "socket_mode = \"\"", "socket_mode = \"rw\"", "socket_mode = 660",
          "socket_group = \"no such group\""}) {
        std::ofstream(dir.file("c")) << "[mediator]\n" << line << "\n";
        Config config;
        const auto loaded = load_config_file(dir.file("c"), config);
        ASSERT_FALSE(loaded) << line;
        EXPECT_EQ(loaded.error().line, 2U) << line;
    }
}

TEST(ConfigFile, AVmBeginsWithTheLimitsOfAllAndSaysWhatDiffers) {
    const test::TempDir dir;
    std::ofstream(dir.file("c")) << R"(
        [[vm]]
        id = 7
        weight = 2.5
        boost = true
        queue_depth = 9
        burst = 3
        [[pool]]
        id = "F"
        policy = "fair"
        aging_ms = 0
        [limits]
        requests_per_second = 100
        burst = 20
        gpu_time_ms_per_window = 5
        gpu_window_ms = 50
        quarantine_after_faults = 4
        longest_execution_ms = 6)";
    Config config;
    const auto loaded = load_config_file(dir.file("c"), config);
    ASSERT_TRUE(loaded) << loaded.error().message;
    const Settings& settings = config.mediator;
    const VmLimitSettings all{.requests_per_second = 100,
                              .burst = 20,
                              .gpu_time = std::chrono::milliseconds(5),
                              .gpu_window = std::chrono::milliseconds(50),
                              .quarantine_after_faults = 4,
                              .longest_execution = std::chrono::milliseconds(6)};
    EXPECT_EQ(settings.vm(1).limits, all);
    VmLimitSettings seven = all;
    seven.burst = 3;
    EXPECT_EQ(settings.vm(7).limits, seven);
    EXPECT_EQ(settings.vm(7).weight, 2.5);
    EXPECT_TRUE(settings.vm(7).boost);
    EXPECT_EQ(settings.vm(7).queue_depth, 9U);
    EXPECT_FALSE(settings.vm(1).boost);
    const PoolPolicy fair{.policy = Policy::kFair, .aging = std::chrono::milliseconds(0)};
    EXPECT_EQ(settings.pools.at(0).policy, fair);
}

std::string error_of(const std::string& text) {
    const test::TempDir dir;
    std::ofstream(dir.file("c")) << text;
    Config config;
    const auto loaded = load_config_file(dir.file("c"), config);
    return loaded ? "" : loaded.error().message;
}

TEST(ConfigFile, PoolsNameTheirGpusByIndex) {
    const test::TempDir dir;
    std::ofstream(dir.file("c")) << R"(
        [[vm]]
        id = 7
        pool = "B"
        priority = "high"
        memory_bytes = 4096
        [[pool]]
        id = "A"
        [[pool]]
        id = "B"
        gpus = [3, 5]
        [executor]
        slots = 2
        [[gpu]]
        index = 5
        [[gpu]]
        index = 3
        slots = 4)";
    Config config;
    const auto loaded = load_config_file(dir.file("c"), config);
    ASSERT_TRUE(loaded) << loaded.error().message;
    const Settings& settings = config.mediator;
    ASSERT_EQ(settings.gpus.size(), 2U);
    EXPECT_EQ(settings.gpus[0].index, 5);
    EXPECT_EQ(settings.slots_of(0), 2U);
    EXPECT_EQ(settings.slots_of(1), 4U);
    EXPECT_EQ(settings.pools.at(0).devices, (std::vector<std::size_t>{0}));
    EXPECT_EQ(settings.pools.at(1).devices, (std::vector<std::size_t>{1, 0}));
    EXPECT_EQ(settings.vm(7).pool, 'B');
    EXPECT_EQ(settings.vm(7).priority, VGPU_PRIORITY_HIGH);
    EXPECT_EQ(settings.memory_quota(7), 4096U);
    EXPECT_EQ(settings.memory_quota(8), settings.memory_per_vm);
    EXPECT_FALSE(settings.vm(8).pool);
}

TEST(ConfigFile, WrongGpusPoolsAndVmsAreNamedWithTheirLine) {
    EXPECT_NE(error_of("[[pool]]\nid = 'A'\ngpus = [1]\n").find("c:3: no [[gpu]] has"),
              std::string::npos);
    EXPECT_NE(error_of("[[gpu]]\nslots = 1\n").find("has no 'index'"), std::string::npos);
    EXPECT_NE(error_of("[[gpu]]\nindex = 1\n[[gpu]]\nindex = 1\n").find("GPU 1 is defined"),
              std::string::npos);
    EXPECT_NE(error_of("[[gpu]]\nindex=0\n[[pool]]\nid='A'\ngpus=[0, 0]\n").find("c:5: GPU 0"),
              std::string::npos);
    EXPECT_NE(error_of("[[pool]]\nid='A'\n[[vm]]\nid=1\npool='C'\n").find("c:5: no [[pool]] has"),
              std::string::npos);
    EXPECT_NE(error_of("[[vm]]\nid=1\npriority='urgent'\n").find("c:3: 'priority'"),
              std::string::npos);
}

TEST(ConfigFile, TheAdminApiTakesUsersByNameAndMetricsLoopbackOnly) {
    const test::TempDir dir;
    std::ofstream(dir.file("good")) << "[admin]\nsocket = \"/a\"\nallowed_users = [\"root\", 7]\n"
                                    << "[metrics]\nlisten = \"[::1]:9400\"\n";
    Config config;
    const auto loaded = load_config_file(dir.file("good"), config);
    ASSERT_TRUE(loaded) << loaded.error().message;
    EXPECT_EQ(config.admin_socket, "/a");
    EXPECT_EQ(config.allowed_users, (std::vector<uid_t>{0, 7}));
    EXPECT_EQ(config.metrics_listen, "[::1]:9400");
    for (const char* const bad :
         {"[admin]\nallowed_users = [\"no such user\"]\n", "[admin]\nallowed_users = [-1]\n",
          "[admin]\nallowed_users = \"root\"\n", "[metrics]\nlisten = \"0.0.0.0:9400\"\n"}) {
        std::ofstream(dir.file("bad")) << bad;
        const auto refused = load_config_file(dir.file("bad"), config);
        ASSERT_FALSE(refused) << bad;
        EXPECT_NE(refused.error().message.find("bad:2: "), std::string::npos);
    }
}

TEST(ConfigFile, TheAdminSocketGoesWithTheDefaultSocket) {
    Config config;
    EXPECT_EQ(admin_socket_of(config), kDefaultAdminSocket);
    config.sockets = {"/elsewhere"};
    EXPECT_EQ(admin_socket_of(config), "");
    config.admin_socket = "/a";
    EXPECT_EQ(admin_socket_of(config), "/a");
    config.sockets = Config().sockets;
    config.admin_socket = "";
    EXPECT_EQ(admin_socket_of(config), "");
}

TEST(ConfigFile, AnEmptyFileChangesNothingAndIsGood) {
    const test::TempDir dir;
    const std::ofstream empty(dir.file("c"));
    Config config;
    const auto loaded = load_config_file(dir.file("c"), config);
    ASSERT_TRUE(loaded) << loaded.error().message;
    EXPECT_EQ(config.sockets, Config().sockets);
}

TEST(Reload, KeepsTheGpusAndWhoseTheyAreAndTakesTheirSlots) {
    Config running;
    running.mediator.gpus = {{.index = 0, .slots = 1}, {.index = 1, .slots = 1}};
    Config next = running;
    next.mediator.gpus[1].slots = 4;
    EXPECT_TRUE(keep_what_cannot_change(running, next).empty());
    EXPECT_EQ(next.mediator.slots_of(1), 4U);
    next.mediator.pools[0].devices = {1};
    EXPECT_EQ(keep_what_cannot_change(running, next).size(), 1U);
    EXPECT_EQ(next.mediator.pools[0].devices, running.mediator.pools[0].devices);
    next.mediator.gpus[1].index = 7;
    EXPECT_EQ(keep_what_cannot_change(running, next).size(), 1U);
    EXPECT_EQ(next.mediator.gpus[1].index, 1);
}

TEST(Reload, KeepsTheLogsTarget) {
    Config running;
    running.log_target = LogTarget::kStderr;
    Config next = running;
    EXPECT_TRUE(keep_what_cannot_change(running, next).empty());
    next.log_target = LogTarget::kJournal;
    EXPECT_EQ(keep_what_cannot_change(running, next), std::vector<std::string>{"log.target"});
    EXPECT_EQ(next.log_target, LogTarget::kStderr);
}

TEST(Reload, SaysWhatTheFileSaidBeforeAndSaysNow) {
    const test::TempDir dir;
    const auto load = [&](const char* text) {
        std::ofstream(dir.file("c")) << text;
        Config config;
        EXPECT_TRUE(load_config_file(dir.file("c"), config));
        return config;
    };
    const Config running =
        load("[limits]\nburst = 20\nqueue_per_vm = 3\n[[vm]]\nid = 7\nburst = 1\n");
    const Config next = load("[limits]\nburst = 40\n[mediator]\nsockets = [\"/a\", \"/b\"]\n");
    EXPECT_TRUE(changes_of_file(running, running).empty());
    EXPECT_EQ(changes_of_file(running, next),
              (std::vector<std::string>{
                  "limits.burst: 20 -> 40",
                  "limits.queue_per_vm: 3 -> (not in the file: the default)",
                  "vm 7.burst: 1 -> (not in the file: the default)",
                  "vm 7.id: 7 -> (not in the file: the default)",
                  "mediator.sockets: (the default) -> [ '/a', '/b' ]",
              }));
    EXPECT_TRUE(refuse_emptied(running, next, "c"));
    const Config emptied = load("# nothing\n");
    ASSERT_FALSE(refuse_emptied(running, emptied, "c"));
    EXPECT_TRUE(refuse_emptied(emptied, emptied, "c"));
}

TEST(ConfigFile, WhatIsNoRegularFileIsNamedAsThat) {
    const test::TempDir dir;
    Config config;
    const auto folder = load_config_file(dir.path().string(), config);
    ASSERT_FALSE(folder);
    EXPECT_NE(folder.error().message.find(dir.path().string() + ": it is a folder"),
              std::string::npos)
        << folder.error().message;
    ASSERT_EQ(::mkfifo(dir.file("pipe").c_str(), 0600), 0);
    const auto pipe = load_config_file(dir.file("pipe"), config);
    ASSERT_FALSE(pipe) << "and does not wait for a writer";
    EXPECT_NE(pipe.error().message.find("not a regular file"), std::string::npos);
    const auto none = load_config_file(dir.file("none"), config);
    ASSERT_FALSE(none);
    EXPECT_NE(none.error().message.find("No such file"), std::string::npos);
    std::ofstream(dir.file("long")) << std::string(kMostConfigBytes + 1, '#');
    const auto long_one = load_config_file(dir.file("long"), config);
    ASSERT_FALSE(long_one);
    EXPECT_NE(long_one.error().message.find("longer than"), std::string::npos);
}

// Letters where white space may occur, and a '[' that does not begin a key.
TEST(ConfigFile, OddCharactersAreErrorsWithTheirLine) {
    const test::TempDir dir;
    for (const char* const text : {"a = 1\nb \u00e9= 2\n", "a = 1\n\u0142\n", "a = 1\n[!\n",
                                   "a = 1\nb = \u1680\u1681 2\n", "a = 1\n[\ufb07]\n"}) {
        std::ofstream(dir.file("c")) << text;
        Config config;
        const auto loaded = load_config_file(dir.file("c"), config);
        ASSERT_FALSE(loaded);
        EXPECT_NE(loaded.error().message.find("c:2: "), std::string::npos)
            << loaded.error().message;
    }
}

TEST(ConfigFile, ABadFileChangesNothing) {
    const test::TempDir dir;
    std::ofstream(dir.file("c")) << "[executor]\nslots = 3\nspeed = 7\n";
    Config config;
    const auto loaded = load_config_file(dir.file("c"), config);
    ASSERT_FALSE(loaded);
    EXPECT_NE(loaded.error().message.find("c:3: unknown key 'speed'"), std::string::npos);
    EXPECT_EQ(config.mediator.slots, Config().mediator.slots);
}

}  // namespace
}  // namespace vgpu
