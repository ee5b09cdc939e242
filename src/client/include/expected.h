// SPDX-License-Identifier: MIT
//
// Expected<T>: the result type of the C++ API of libvgpu: either a value, or a Failure with the
// code, error text and errno of the C API. Used by vgpu.hpp and by the library itself. Includes no
// other header of the project, so it can be installed beside vgpu.hpp.
#pragma once

#include <string>
#include <utility>
#include <variant>

namespace vgpu {

// Why an operation failed.
struct Failure {
    int code = 0;         // enum vgpu_error or enum vgpu_code; never VGPU_OK
    std::string message;  // error text, UTF-8, with the suggested remedy
    int sys_errno = 0;    // errno of the system call that failed, or 0
};

// A value, or why there is none.
template <typename T>
class [[nodiscard]] Expected {
  public:
    // Holds a value. Implicit by design, so that functions can return one directly.
    //
    // value: the value, which is moved
    Expected(T value) : state_(std::in_place_index<0>, std::move(value)) {}
    // Holds a failure; implicit for the same reason.
    //
    // failure: why there is no value
    Expected(Failure failure) : state_(std::in_place_index<1>, std::move(failure)) {}

    // Returns whether there is a value.
    [[nodiscard]] bool has_value() const { return state_.index() == 0; }
    // Returns whether there is a value.
    explicit operator bool() const { return has_value(); }

    // Returns the value. Precondition: has_value(); otherwise throws std::bad_variant_access.
    T& operator*() & { return std::get<0>(state_); }
    // Returns the value, as above.
    const T& operator*() const& { return std::get<0>(state_); }
    // Returns the value, to be moved from, as above.
    T&& operator*() && { return std::get<0>(std::move(state_)); }
    // Returns a pointer to the value, as above.
    T* operator->() { return &std::get<0>(state_); }
    // Returns a pointer to the value, as above.
    const T* operator->() const { return &std::get<0>(state_); }

    // Returns the failure. Precondition: !has_value(); otherwise throws std::bad_variant_access.
    [[nodiscard]] const Failure& failure() const { return std::get<1>(state_); }

  private:
    std::variant<T, Failure> state_;
};

// Success without a value, or a failure.
template <>
class [[nodiscard]] Expected<void> {
  public:
    // Success.
    Expected() = default;
    // Holds a failure. Implicit by design, so that functions can return one directly.
    //
    // failure: what has failed
    Expected(Failure failure) : failure_(std::move(failure)), failed_(true) {}

    // Returns whether it succeeded.
    [[nodiscard]] bool has_value() const { return !failed_; }
    // Returns whether it succeeded.
    explicit operator bool() const { return has_value(); }

    // Returns the failure. Precondition: !has_value().
    [[nodiscard]] const Failure& failure() const { return failure_; }

  private:
    Failure failure_;
    bool failed_ = false;
};

}  // namespace vgpu
