// SPDX-License-Identifier: MIT
//
// main() of every test program. A listener fails any test that leaves a descriptor open.
// Descriptors whose target begins with VGPU_TEST_FOREIGN_DESCRIPTORS are ignored: a tool that
// instruments the process may open some.
#include <dirent.h>
#include <gtest/gtest.h>

#include <chrono>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <string>
#include <system_error>
#include <thread>

namespace {

// Maps each open descriptor to its target.
std::map<int, std::string> open_descriptors() {
    std::map<int, std::string> found;
    DIR* const dir = ::opendir("/proc/self/fd");
    if (dir == nullptr) {
        return found;
    }
    const int own = ::dirfd(dir);
    while (const dirent* entry = ::readdir(dir)) {
        char* end = nullptr;
        const long number = std::strtol(entry->d_name, &end, 10);
        if (end == entry->d_name || number == own) {
            continue;
        }
        std::error_code error;
        const auto target =
            std::filesystem::read_symlink("/proc/self/fd/" + std::to_string(number), error);
        found[static_cast<int>(number)] = error ? "?" : target.string();
    }
    ::closedir(dir);
    return found;
}

class DescriptorLeakListener : public testing::EmptyTestEventListener {
    void OnTestStart(const testing::TestInfo& /*info*/) override { before_ = open_descriptors(); }

    void OnTestEnd(const testing::TestInfo& /*info*/) override {
        auto left = opened_since();
        // A thread about to exit, or a sanitizer's check, may hold a descriptor briefly.
        for (int polls = 0; !left.empty() && polls < 50; ++polls) {
            std::this_thread::sleep_for(std::chrono::milliseconds(2));
            const auto now = opened_since();
            std::erase_if(left, [&](const auto& one) { return !now.contains(one.first); });
        }
        for (const auto& [number, target] : left) {
            ADD_FAILURE() << "descriptor " << number << " (" << target << ") is still open";
        }
    }

    [[nodiscard]] std::map<int, std::string> opened_since() const {
        const char* const foreign = std::getenv("VGPU_TEST_FOREIGN_DESCRIPTORS");
        auto found = open_descriptors();
        std::erase_if(found, [&](const auto& one) {
            return before_.contains(one.first) ||
                   (foreign != nullptr && one.second.starts_with(foreign));
        });
        return found;
    }

    std::map<int, std::string> before_;
};

}  // namespace

int main(int argc, char** argv) {
    testing::InitGoogleTest(&argc, argv);
    // Ignore SIGPIPE so that a closed peer is reported as EPIPE, as in the programs under test.
    static_cast<void>(std::signal(SIGPIPE, SIG_IGN));
    testing::UnitTest::GetInstance()->listeners().Append(new DescriptorLeakListener);
    return RUN_ALL_TESTS();
}
