// SPDX-License-Identifier: MIT
//
// Program exit. Each case runs in its own process, because it is about standard output.
#include "base/program.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <vector>

namespace vgpu::program {
namespace {

using testing::ExitedWithCode;

TEST(ProgramDeathTest, IsASentenceWhenMemoryRunsOut) {
    const auto end = [](const std::function<int()>& body) { std::exit(run("prog", body)); };
    EXPECT_EXIT(end([]() -> int { throw std::bad_alloc(); }), ExitedWithCode(1),
                "^prog: out of memory\n$");
    EXPECT_EXIT(end([]() -> int {
                    std::vector<int>().reserve(~std::size_t{0});
                    return 0;
                }),
                ExitedWithCode(1), "^prog: out of memory\n$");
    EXPECT_EXIT(end([]() -> int { throw std::runtime_error("it broke"); }), ExitedWithCode(1),
                "^prog: it broke\n$");
    EXPECT_EXIT(end([] { return 7; }), ExitedWithCode(7), "^$");
}

TEST(ProgramDeathTest, IsAFailureWhenOutputIsLost) {
    const auto end = [](int status, const std::function<void()>& print) {
        if (std::freopen("/dev/full", "w", stdout) == nullptr) {
            std::exit(99);
        }
        std::exit(run("prog", [&] {
            print();
            return status;
        }));
    };
    const std::string why = "^prog: cannot write to standard output: No space left on device\n$";
    EXPECT_EXIT(end(0, [] { std::cout << "words"; }), ExitedWithCode(1), why);
    EXPECT_EXIT(end(0, [] { std::cout << "words" << std::endl; }), ExitedWithCode(1), why);
    EXPECT_EXIT(end(0, [] { std::cout << std::string(100'000, 'x'); }), ExitedWithCode(1), why);
    EXPECT_EXIT(end(0, [] { (void)std::fputs("words", stdout); }), ExitedWithCode(1), why);
    EXPECT_EXIT(end(2, [] { std::cout << "words"; }), ExitedWithCode(2), why);
    EXPECT_EXIT(end(0, [] {}), ExitedWithCode(0), "^$") << "nothing printed, nothing lost";
}

}  // namespace
}  // namespace vgpu::program
