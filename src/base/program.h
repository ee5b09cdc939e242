// SPDX-License-Identifier: MIT
//
// Common code of every main(): how a program ends. No program reports success if its output was
// lost, and an exception becomes an error text on standard error that never names a C++ type.
// Header-only, so that every program can use it.
#pragma once

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdio>
#include <exception>
#include <iostream>
#include <new>
#include <stdexcept>
#include <streambuf>
#include <string>
#include <string_view>
#include <system_error>

namespace vgpu::program {

inline constexpr int kFailure = 1;

// One line on standard error: "vgpu: …".
inline void complain(std::string_view program, std::string_view message) {
    std::cout.flush();
    std::cerr << program << ": " << message << '\n';
}

// If descriptor 0, 1 or 2 is closed, the next file or socket would get its number, and output would
// go there. Replaces it with one on which reading and writing fail.
inline void hold_standard_descriptors() {
    for (const int number : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
        if (::fcntl(number, F_GETFD) < 0 && errno == EBADF) {
            // The lowest free number is this one.
            (void)::open("/dev/null", number == STDIN_FILENO ? O_WRONLY : O_RDONLY);
        }
    }
}

// Standard output while a program runs: redirects std::cout to stdout, so that both keep their
// order, and records why a write failed. One instance at a time; the destructor restores std::cout.
class Output : private std::streambuf {
  public:
    Output() : before_(std::cout.rdbuf(this)) {}
    Output(const Output&) = delete;
    Output& operator=(const Output&) = delete;
    ~Output() override { std::cout.rdbuf(before_); }

    // Flushes the output. Returns `status` if all output was written; otherwise prints the cause
    // and returns a failure. If the reader has closed its end (`vgpu list | head -1`), nothing is
    // printed, since it has what it wanted.
    int finish(std::string_view program, int status) {
        bool arrived = sync() == 0;
        // Network file systems report some errors only on close(2).
        const int copy = ::dup(STDOUT_FILENO);
        arrived = copy < 0 || keep_cause(::close(copy) == 0) ? arrived : false;
        if (arrived && std::ferror(stdout) == 0 && error_ == 0) {
            return status;
        }
        if (error_ != EPIPE) {
            std::cerr << program << ": cannot write to standard output: "
                      << (error_ != 0 ? std::generic_category().message(error_)
                                      : std::string("part of the output is lost"))
                      << '\n';
        }
        return status == 0 ? kFailure : status;
    }

  private:
    int_type overflow(int_type c) override {
        if (traits_type::eq_int_type(c, traits_type::eof())) {
            return traits_type::not_eof(c);
        }
        return keep_cause(std::fputc(c, stdout) != EOF) ? c : traits_type::eof();
    }
    std::streamsize xsputn(const char* text, std::streamsize length) override {
        const auto wanted = static_cast<std::size_t>(length);
        const std::size_t written = std::fwrite(text, 1, wanted, stdout);
        (void)keep_cause(written == wanted);
        return static_cast<std::streamsize>(written);
    }
    int sync() override { return keep_cause(std::fflush(stdout) == 0) ? 0 : -1; }

    // Keeps the first errno.
    bool keep_cause(bool good) {
        if (!good && error_ == 0) {
            error_ = errno;
        }
        return good;
    }

    std::streambuf* before_;
    int error_ = 0;
};

// Runs `body`, which returns the exit status, and prints exceptions. Returns the exit status.
template <typename Body>
int run(std::string_view program, Body body) {
    hold_standard_descriptors();
    Output output;
    int status = kFailure;
    try {
        status = body();
    } catch (const std::bad_alloc&) {
        complain(program, "out of memory");
    } catch (const std::length_error&) {
        // A container would exceed its maximum size.
        complain(program, "out of memory");
    } catch (const std::exception& error) {
        complain(program, error.what());
    }
    return output.finish(program, status);
}

}  // namespace vgpu::program
