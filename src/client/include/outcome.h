// SPDX-License-Identifier: MIT
//
// Outcome<T>: what a call of libvgpu gives in C++: a value, or a Failure with the code, the
// sentence and the errno of the C API. Shared by vgpu.hpp and the library's own code; needs no
// other header of the project, so that it can be installed beside vgpu.hpp.
#pragma once

#include <string>
#include <utility>
#include <variant>

namespace vgpu {

struct Failure {
    int code = 0;         // enum vgpu_error or enum vgpu_code; never VGPU_OK
    std::string message;  // a sentence that says what to do
    int sys_errno = 0;    // errno behind it, or 0
};

template <typename T>
class [[nodiscard]] Outcome {
  public:
    // Implicit on purpose, as in Result<T>.
    Outcome(T value) : state_(std::in_place_index<0>, std::move(value)) {}
    Outcome(Failure failure) : state_(std::in_place_index<1>, std::move(failure)) {}

    [[nodiscard]] bool has_value() const { return state_.index() == 0; }
    explicit operator bool() const { return has_value(); }

    // Precondition: has_value(). Otherwise std::bad_variant_access.
    T& operator*() & { return std::get<0>(state_); }
    const T& operator*() const& { return std::get<0>(state_); }
    T&& operator*() && { return std::get<0>(std::move(state_)); }
    T* operator->() { return &std::get<0>(state_); }
    const T* operator->() const { return &std::get<0>(state_); }

    // Precondition: !has_value().
    [[nodiscard]] const Failure& failure() const { return std::get<1>(state_); }

  private:
    std::variant<T, Failure> state_;
};

template <>
class [[nodiscard]] Outcome<void> {
  public:
    Outcome() = default;
    Outcome(Failure failure) : failure_(std::move(failure)), failed_(true) {}

    [[nodiscard]] bool has_value() const { return !failed_; }
    explicit operator bool() const { return has_value(); }

    // Precondition: !has_value().
    [[nodiscard]] const Failure& failure() const { return failure_; }

  private:
    Failure failure_;
    bool failed_ = false;
};

}  // namespace vgpu
