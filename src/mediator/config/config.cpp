// SPDX-License-Identifier: MIT
#include "mediator/config/config.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <cerrno>
#include <cmath>
#include <functional>
#include <limits>
#include <map>
#include <optional>
#include <set>
#include <sstream>
#include <string>
#include <system_error>
#include <utility>

#include "base/fd.h"
#include "mediator/config/access.h"
#include "mediator/config/names.h"
#include "mediator/config/toml.h"

namespace vgpu {
namespace {

// Thrown while a file is read, caught in load_config_file().
struct BadConfig {
    toml::source_position where;
    std::string what;
};

[[noreturn]] void fail(const toml::node& node, std::string what) {
    throw BadConfig{node.source().begin, std::move(what)};
}

// Validates and stores the value of one key of a table.
using Reader = std::function<void(const std::string& key, const toml::node&)>;

void read_table(const toml::table& table, const std::string& where,
                const std::map<std::string, Reader>& readers) {
    for (const auto& [key, value] : table) {
        const std::string name(key.str());
        const auto reader = readers.find(name);
        if (reader == readers.end()) {
            throw BadConfig{key.source().begin,
                            std::string("unknown key '").append(name).append("' in ") + where};
        }
        reader->second(name, value);
    }
}

Reader into_bool(bool& to) {
    return [&to](const std::string& key, const toml::node& node) {
        if (!node.is_boolean()) {
            fail(node, "'" + key + "' must be true or false");
        }
        to = node.as_boolean()->get();
    };
}

std::int64_t integer_in(const std::string& key, const toml::node& node, std::int64_t least,
                        std::int64_t most) {
    const auto* const integer = node.as_integer();
    if (integer == nullptr || integer->get() < least || integer->get() > most) {
        fail(node, "'" + key + "' must be a whole number from " + std::to_string(least) + " to " +
                       std::to_string(most));
    }
    return integer->get();
}

template <typename T>
Reader into_integer(T& to, std::int64_t least, std::int64_t most) {
    return [&to, least, most](const std::string& key, const toml::node& node) {
        to = static_cast<T>(integer_in(key, node, least, most));
    };
}

template <typename Duration>
Reader into_duration(Duration& to, std::int64_t least, std::int64_t most) {
    return [&to, least, most](const std::string& key, const toml::node& node) {
        to = Duration(integer_in(key, node, least, most));
    };
}

std::string text_of(const std::string& key, const toml::node& node) {
    const auto* const text = node.as_string();
    if (text == nullptr) {
        fail(node, "'" + key + "' must be text in quotes");
    }
    return text->get();
}

// Returns a path that a Unix socket can be bound to.
std::string socket_path_of(const std::string& key, const toml::node& node) {
    std::string path = text_of(key, node);
    if (path.empty() || path.size() >= sizeof(sockaddr_un::sun_path)) {
        fail(node, "a path in '" + key + "' must be 1 to " +
                       std::to_string(sizeof(sockaddr_un::sun_path) - 1) + " bytes long");
    }
    return path;
}

Reader into_sockets(std::vector<std::string>& to) {
    return [&to](const std::string& key, const toml::node& node) {
        const auto* const list = node.as_array();
        if (list == nullptr || list->empty()) {
            fail(node, "'" + key + "' must be a list of paths, with at least one");
        }
        to.clear();
        for (const toml::node& entry : *list) {
            to.push_back(socket_path_of(key, entry));
        }
    };
}

Reader into_table(std::map<std::string, Reader> readers) {
    return [readers = std::move(readers)](const std::string& key, const toml::node& node) {
        if (!node.is_table()) {
            fail(node, "'" + key + "' must be a table: [" + key + "]");
        }
        read_table(*node.as_table(), "[" + key + "]", readers);
    };
}

Reader into_policy(PoolPolicy& to) {
    return [&to](const std::string& key, const toml::node& node) {
        const auto policy = policy_named(text_of(key, node));
        if (!policy) {
            fail(node, "'" + key + "' must be \"strict\" or \"fair\"");
        }
        to.policy = *policy;
    };
}

// Keys that apply to all VMs and to one.
std::map<std::string, Reader> vm_limit_readers(VmLimitSettings& to) {
    return {
        {"requests_per_second", into_integer(to.requests_per_second, 0, 1'000'000)},
        {"burst", into_integer(to.burst, 1, 1'000'000)},
        {"gpu_time_ms_per_window", into_duration(to.gpu_time, 0, 3'600'000)},
        {"gpu_window_ms", into_duration(to.gpu_window, 1, 3'600'000)},
        {"quarantine_after_faults", into_integer(to.quarantine_after_faults, 0, 1'000'000)},
        {"longest_execution_ms", into_duration(to.longest_execution, 0, 3'600'000)},
    };
}

Reader into_weight(double& to) {
    return [&to](const std::string& key, const toml::node& node) {
        const auto weight = node.value<double>();
        if (!weight || !(*weight >= 0.001 && *weight <= 1000.0)) {
            fail(node, "'" + key + "' must be a number from 0.001 to 1000");
        }
        to = *weight;
    };
}

constexpr std::int64_t kMostBytes = std::numeric_limits<std::int64_t>::max();

char pool_id_of(const std::string& key, const toml::node& node) {
    const auto parsed = parse_pools(text_of(key, node));
    if (!parsed || parsed->size() != 1) {
        fail(node, "'" + key + "' must be one letter, e.g. \"A\"");
    }
    return parsed->front().id;
}

Reader into_priority(std::optional<std::uint8_t>& to) {
    return [&to](const std::string& key, const toml::node& node) {
        to = level_named(text_of(key, node));
        if (!to) {
            fail(node, "'" + key + "' must be \"low\", \"medium\" or \"high\"");
        }
    };
}

uid_t read_user(const std::string& key, const toml::node& node) {
    if (node.is_integer()) {
        return static_cast<uid_t>(integer_in(key, node, 0, UINT32_MAX - 1));
    }
    const auto uid = find_user(text_of(key, node));
    if (!uid) {
        fail(node, uid.error().message);
    }
    return *uid;
}

// `served`: the pools of the file; empty if it defines none, then any pool is accepted.
void read_vms(const toml::node& node, const std::vector<char>& served, Settings& settings) {
    const auto* const list = node.as_array();
    if (list == nullptr || list->empty() || !list->is_homogeneous(toml::node_type::table)) {
        fail(node, "'vm' must be a list of tables: [[vm]]");
    }
    settings.vms.clear();
    for (const toml::node& entry : *list) {
        VmSettings vm = settings.vm_default;
        std::optional<std::uint32_t> id;
        std::map<std::string, Reader> readers = vm_limit_readers(vm.limits);
        readers["id"] = [&](const std::string& key, const toml::node& value) {
            id = static_cast<std::uint32_t>(integer_in(key, value, 0, UINT32_MAX));
        };
        readers["weight"] = into_weight(vm.weight);
        readers["boost"] = into_bool(vm.boost);
        readers["pool"] = [&](const std::string& key, const toml::node& value) {
            vm.pool = pool_id_of(key, value);
            if (!served.empty() &&
                std::find(served.begin(), served.end(), *vm.pool) == served.end()) {
                fail(value, std::string("no [[pool]] has id ") + *vm.pool);
            }
        };
        readers["priority"] = into_priority(vm.priority);
        readers["memory_bytes"] = [&](const std::string& key, const toml::node& value) {
            vm.memory_bytes = static_cast<std::uint64_t>(integer_in(key, value, 0, kMostBytes));
        };
        readers["user"] = [&](const std::string& key, const toml::node& value) {
            vm.user = read_user(key, value);
        };
        readers["queue_depth"] = [&](const std::string& key, const toml::node& value) {
            vm.queue_depth = static_cast<std::size_t>(integer_in(key, value, 1, 1'000'000));
        };
        read_table(*entry.as_table(), "[[vm]]", readers);
        if (!id) {
            fail(entry, "this [[vm]] has no 'id'");
        }
        if (!settings.vms.emplace(*id, vm).second) {
            fail(entry, "VM " + std::to_string(*id) + " is defined twice");
        }
    }
}

void read_gpus(const toml::node& node, std::vector<GpuSettings>& to) {
    const auto* const list = node.as_array();
    if (list == nullptr || list->empty() || !list->is_homogeneous(toml::node_type::table)) {
        fail(node, "'gpu' must be a list of tables: [[gpu]]");
    }
    to.clear();
    for (const toml::node& entry : *list) {
        GpuSettings gpu;
        bool named = false;
        read_table(*entry.as_table(), "[[gpu]]",
                   {{"index",
                     [&](const std::string& key, const toml::node& value) {
                         gpu.index = static_cast<int>(integer_in(key, value, 0, 1023));
                         named = true;
                     }},
                    {"slots", [&](const std::string& key, const toml::node& value) {
                         gpu.slots = static_cast<std::size_t>(integer_in(key, value, 1, 16));
                     }}});
        if (!named) {
            fail(entry, "this [[gpu]] has no 'index'");
        }
        if (std::any_of(to.begin(), to.end(),
                        [&](const auto& other) { return other.index == gpu.index; })) {
            fail(entry, "GPU " + std::to_string(gpu.index) + " is defined twice");
        }
        to.push_back(gpu);
    }
}

// A pool's GPUs, given by their index, as positions in `gpus`.
Reader into_devices(std::vector<std::size_t>& to, const std::vector<GpuSettings>& gpus) {
    return [&to, &gpus](const std::string& key, const toml::node& node) {
        const auto* const list = node.as_array();
        if (list == nullptr || list->empty()) {
            fail(node, "'" + key + "' must be a list of the indices of [[gpu]] tables");
        }
        to.clear();
        for (const toml::node& entry : *list) {
            const auto index = static_cast<int>(integer_in(key, entry, 0, 1023));
            const auto found = std::find_if(gpus.begin(), gpus.end(),
                                            [&](const auto& gpu) { return gpu.index == index; });
            if (found == gpus.end()) {
                fail(entry, "no [[gpu]] has index " + std::to_string(index));
            }
            const auto place = static_cast<std::size_t>(found - gpus.begin());
            if (std::find(to.begin(), to.end(), place) != to.end()) {
                fail(entry, "GPU " + std::to_string(index) + " is defined twice");
            }
            to.push_back(place);
        }
    };
}

void read_pools(const toml::node& node, const std::vector<GpuSettings>& gpus,
                std::vector<PoolSettings>& to) {
    const auto* const list = node.as_array();
    if (list == nullptr || list->empty() || !list->is_homogeneous(toml::node_type::table)) {
        fail(node, "'pool' must be a list of tables: [[pool]]");
    }
    to.clear();
    for (const toml::node& entry : *list) {
        PoolSettings pool{.id = '\0', .devices = {0}, .policy = {}};
        read_table(*entry.as_table(), "[[pool]]",
                   {{"id", [&](const std::string& key,
                               const toml::node& value) { pool.id = pool_id_of(key, value); }},
                    {"gpus", into_devices(pool.devices, gpus)},
                    {"policy", into_policy(pool.policy)},
                    {"aging_ms", into_duration(pool.policy.aging, 0, 3'600'000)}});
        if (pool.id == '\0') {
            fail(entry, "this [[pool]] has no 'id'");
        }
        if (std::any_of(to.begin(), to.end(), [&](const auto& p) { return p.id == pool.id; })) {
            fail(entry, std::string("pool ") + pool.id + " is defined twice");
        }
        to.push_back(pool);
    }
}

Reader into_files(FilesConfig& to) {
    return into_table({
        {"directory",
         [&to](const std::string& key, const toml::node& node) {
             to.directory = text_of(key, node);
             if (!to.directory.empty() && to.directory[0] != '/') {
                 fail(node, "'" + key + "' must be an absolute path, or \"\" for none");
             }
         }},
        {"interval_ms", into_duration(to.interval, 1, 3'600'000)},
        {"notify",
         [&to](const std::string& key, const toml::node& node) {
             const std::string text = text_of(key, node);
             if (text != "auto" && text != "never") {
                 fail(node, "'" + key + "' must be \"auto\" or \"never\"");
             }
             to.notify = text == "auto";
         }},
        {"partial_ms", into_duration(to.partial, 1, 3'600'000)},
    });
}

// [admin], [metrics] and [files].
std::map<std::string, Reader> admin_readers(Config& config) {
    return {
        {"files", into_files(config.files)},
        {"admin", into_table({
                      {"socket",
                       [&](const std::string& key, const toml::node& node) {
                           config.admin_socket = text_of(key, node).empty()
                                                     ? std::string()
                                                     : socket_path_of(key, node);
                       }},
                      {"allowed_users",
                       [&](const std::string& key, const toml::node& node) {
                           if (!node.is_array()) {
                               fail(node, "'" + key + "' must be a list of user names or ids");
                           }
                           config.allowed_users.clear();
                           for (const toml::node& entry : *node.as_array()) {
                               config.allowed_users.push_back(read_user(key, entry));
                           }
                       }},
                  })},
        {"metrics", into_table({
                        {"listen",
                         [&](const std::string& key, const toml::node& node) {
                             config.metrics_listen = text_of(key, node);
                             if (config.metrics_listen.empty()) {
                                 return;
                             }
                             if (const auto good = parse_loopback(config.metrics_listen); !good) {
                                 fail(node, good.error().message);
                             }
                         }},
                    })},
    };
}

void read_config(const toml::table& root, Config& config) {
    constexpr std::int64_t kMany = 1'000'000;
    Settings& settings = config.mediator;
    const std::map<std::string, Reader> mediator{
        {"sockets", into_sockets(config.sockets)},
        {"backend",
         [&](const std::string& key, const toml::node& node) {
             auto parsed = parse_backend(text_of(key, node));
             if (!parsed) {
                 fail(node, parsed.error().message);
             }
             config.backend = *parsed;
         }},
        {"device", into_integer(config.device, 0, 1023)},
        {"allow_duplicate_vm_id", into_bool(settings.allow_duplicate_vm_id)},
        {"registered_vms_only", into_bool(settings.registered_vms_only)},
        {"socket_group",
         [&](const std::string& key, const toml::node& node) {
             config.socket_group = text_of(key, node);
             if (config.socket_group.empty() || config.socket_group == kDefaultGroup) {
                 return;
             }
             if (const auto found = find_group(config.socket_group); !found) {
                 fail(node, found.error().message);
             }
         }},
        {"socket_mode",
         [&](const std::string& key, const toml::node& node) {
             const auto mode = parse_socket_mode(text_of(key, node));
             if (!mode) {
                 fail(node, mode.error().message);
             }
             config.socket_mode = *mode;
         }},
    };
    std::map<std::string, Reader> limits{
        {"connections", into_integer(settings.max_connections, 1, kMany)},
        {"connections_per_process", into_integer(settings.max_connections_per_process, 0, kMany)},
        {"message_timeout_ms", into_duration(settings.message_timeout, 1, 3'600'000)},
        {"unsent_bytes", into_integer(settings.max_unsent_bytes, 2048, std::int64_t{1} << 30)},
        {"queue_per_pool", into_integer(settings.queue.per_pool, 1, kMany)},
        {"queue_per_vm", into_integer(settings.queue.per_vm, 1, kMany)},
        {"memory_per_vm", into_integer(settings.memory_per_vm, 0, kMostBytes)},
    };
    limits.merge(vm_limit_readers(settings.vm_default.limits));
    const std::map<std::string, Reader> executor{
        {"slots", into_integer(settings.slots, 1, 16)},
        {"spin_us", into_duration(settings.spin, 0, 1'000'000)},
        {"recovery_wait_ms", into_duration(settings.recovery_wait, 0, 3'600'000)},
        {"kill_overrun", into_bool(settings.kill_overrun)},
    };
    const std::map<std::string, Reader> queues{
        {"enabled", into_bool(settings.queues_enabled)},
        {"memory_max", into_integer(settings.queues_memory_max, std::int64_t{VGPU_SHM_SIZE_MIN},
                                    std::int64_t{VGPU_SHM_SIZE_MAX})},
        {"pipeline", into_integer(settings.queues_pipeline, 1, 64)},
    };
    const std::map<std::string, Reader> shutdown{
        {"drain_timeout_ms", into_duration(settings.drain_timeout, 0, 3'600'000)},
    };
    const std::map<std::string, Reader> log{
        {"level",
         [&](const std::string& key, const toml::node& node) {
             const std::string level = text_of(key, node);
             if (!is_log_level(level)) {
                 fail(node, "'level' must be trace, debug, info, warn or error");
             }
             config.log_level = level;
         }},
        {"target",
         [&](const std::string& key, const toml::node& node) {
             const auto parsed = parse_log_target(text_of(key, node));
             if (!parsed) {
                 fail(node, parsed.error().message);
             }
             config.log_target = *parsed;
         }},
        {"lines_per_second", into_integer(config.log_lines_per_second, 1, kMany)},
        {"burst", into_integer(config.log_burst, 1, kMany)},
    };
    std::vector<char> served;
    // A table's keys come in alphabetical order: [limits] before the [[vm]] that inherit it,
    // [[gpu]] before the [[pool]] that refer to it, and [[pool]] before the [[vm]].
    std::map<std::string, Reader> tables = admin_readers(config);
    tables.merge(std::map<std::string, Reader>{
        {"mediator", into_table(mediator)},
        {"limits", into_table(limits)},
        {"executor", into_table(executor)},
        {"queues", into_table(queues)},
        {"shutdown", into_table(shutdown)},
        {"log", into_table(log)},
        {"gpu", [&](const std::string& /*key*/,
                    const toml::node& node) { read_gpus(node, settings.gpus); }},
        {"pool",
         [&](const std::string& /*key*/, const toml::node& node) {
             read_pools(node, settings.gpus, settings.pools);
             for (const PoolSettings& pool : settings.pools) {
                 served.push_back(pool.id);
             }
         }},
        {"vm", [&](const std::string& /*key*/, const toml::node& node) {
             read_vms(node, served, settings);
         }}});
    read_table(root, "the file", tables);
}

// Never blocks, whatever the path refers to.
Result<std::string> read_file(const std::string& path) {
    const Fd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
    struct stat info {};
    if (!file || ::fstat(file.get(), &info) != 0) {
        return Error{std::generic_category().message(errno), errno};
    }
    if (!S_ISREG(info.st_mode)) {
        return Error{S_ISDIR(info.st_mode) ? "it is a folder" : "it is not a regular file", EINVAL};
    }
    std::string text;
    std::array<char, 16384> part{};
    while (true) {
        const ssize_t count = ::read(file.get(), part.data(), part.size());
        if (count < 0 && errno == EINTR) {
            continue;
        }
        if (count < 0) {
            return Error{std::generic_category().message(errno), errno};
        }
        if (count == 0) {
            return text;
        }
        text.append(part.data(), static_cast<std::size_t>(count));
        if (text.size() > kMostConfigBytes) {
            return Error{"it is longer than " + std::to_string(kMostConfigBytes) + " bytes", EFBIG};
        }
    }
}

void note_written(const toml::table& table, const std::string& prefix,
                  std::map<std::string, std::string>& to) {
    for (const auto& [key, value] : table) {
        const std::string name = prefix + std::string(key.str());
        if (const auto* const inner = value.as_table()) {
            note_written(*inner, name + ".", to);
            continue;
        }
        const auto* const list = value.as_array();
        if (list == nullptr || list->empty() || !list->is_homogeneous<toml::table>()) {
            std::ostringstream text;
            text << toml::node_view(value);
            to[name] = text.str();
            continue;
        }
        // [[gpu]], [[pool]] and [[vm]]: each has an id or an index.
        for (const toml::node& entry : *list) {
            const toml::table& fields = *entry.as_table();
            std::ostringstream text;
            text << name << ' ' << fields[fields.contains("id") ? "id" : "index"];
            note_written(fields, text.str() + ".", to);
        }
    }
}

}  // namespace

std::string admin_socket_of(const Config& config) {
    const bool usual = config.sockets == std::vector<std::string>{VGPU_DEFAULT_SOCKET};
    return config.admin_socket.value_or(usual ? kDefaultAdminSocket : "");
}

Result<void, ConfigError> load_config_file(const std::string& path, Config& config) {
    auto text = read_file(path);
    if (!text) {
        return ConfigError{
            .message = "cannot read the configuration file " + path + ": " + text.error().message,
            .line = std::nullopt};
    }
    const auto at = [&](const toml::source_position& where, const std::string& what) {
        return ConfigError{.message = path + ":" + std::to_string(where.line) + ": " + what,
                           .line = where.line};
    };
    try {
        Config read = config;
        const toml::table root = toml::parse(*text, path);
        read_config(root, read);
        note_written(root, "", read.written);
        config = std::move(read);
        return {};
    } catch (const toml::parse_error& error) {
        return at(error.source().begin, std::string(error.description()));
    } catch (const BadConfig& error) {
        return at(error.where, error.what);
    }
}

Result<BackendChoice> parse_backend(const std::string& text) {
    for (const BackendChoice choice :
         {BackendChoice::kAuto, BackendChoice::kCpu, BackendChoice::kCuda}) {
        if (text == backend_name(choice)) {
            return choice;
        }
    }
    return Error{"backend '" + text + "' is not one of auto, cpu, cuda", EINVAL};
}

const char* backend_name(BackendChoice choice) {
    switch (choice) {
        case BackendChoice::kAuto:
            return "auto";
        case BackendChoice::kCpu:
            return "cpu";
        case BackendChoice::kCuda:
            return "cuda";
    }
    return "?";
}

bool is_log_level(const std::string& text) {
    constexpr std::array kLevels{"trace", "debug", "info", "warn", "error"};
    return std::find(kLevels.begin(), kLevels.end(), text) != kLevels.end();
}

Result<LogTarget> parse_log_target(const std::string& text) {
    if (text == "auto") {
        return LogTarget::kAuto;
    }
    if (text == "journal") {
        return LogTarget::kJournal;
    }
    if (text == "stderr") {
        return LogTarget::kStderr;
    }
    return Error{"log target '" + text + "' is not one of auto, journal, stderr", EINVAL};
}

Result<std::vector<PoolSettings>> parse_pools(const std::string& text) {
    std::vector<PoolSettings> pools;
    std::set<char> seen;
    bool separator_allowed = false;
    for (const char c : text) {
        if (c == ',' && separator_allowed) {
            separator_allowed = false;
            continue;
        }
        if (!is_pool_letter(static_cast<std::uint8_t>(c))) {
            return Error{"pools '" + text + "': each pool is one ASCII letter, e.g. A,B", EINVAL};
        }
        if (!seen.insert(c).second) {
            return Error{"pools '" + text + "': pool " + c + " is named twice", EINVAL};
        }
        pools.push_back({.id = c, .devices = {0}, .policy = {}});
        separator_allowed = true;
    }
    if (pools.empty() || !separator_allowed) {
        return Error{"pools '" + text + "': each pool is one ASCII letter, e.g. A,B", EINVAL};
    }
    return pools;
}

}  // namespace vgpu
