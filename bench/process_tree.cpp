// SPDX-License-Identifier: MIT
#include "process_tree.h"

#include <fmt/format.h>

#include <charconv>
#include <cstddef>
#include <filesystem>
#include <fstream>
#include <string>
#include <system_error>

namespace vgpu::bench {

std::vector<pid_t> threads_of(pid_t process) {
    std::vector<pid_t> threads;
    std::error_code gone;
    const std::string folder = fmt::format("/proc/{}/task", process);
    for (const auto& entry : std::filesystem::directory_iterator(folder, gone)) {
        const std::string name = entry.path().filename();
        pid_t thread = 0;
        std::from_chars(name.data(), name.data() + name.size(), thread);
        threads.push_back(thread);
    }
    return threads;
}

std::vector<pid_t> process_tree(pid_t process) {
    std::vector<pid_t> tree{process};
    for (std::size_t i = 0; i < tree.size(); ++i) {
        for (const pid_t thread : threads_of(tree[i])) {
            std::ifstream children(fmt::format("/proc/{}/task/{}/children", tree[i], thread));
            for (pid_t child = 0; children >> child;) {
                tree.push_back(child);
            }
        }
    }
    return tree;
}

}  // namespace vgpu::bench
