// SPDX-License-Identifier: MIT
//
// The file gateway: a child process of the mediator that serves the old file protocol. It takes
// requests from the files of a share, sends them to the mediator as any other program on the host
// does (libvgpu, over the mediator's socket), and writes the responses. File systems that do not
// answer block this process, never the mediator.
//
//   scanner thread     looks for folders vmN, starts and joins the VmServers
//   a VmServer per VM  see there
//   main thread        watches the mediator and inotify, reports file systems that do not answer
#pragma once

#include <string>
#include <vector>

#include "files/vm_server.h"

namespace vgpu {

// First argument of the mediator's program that makes it a file gateway.
inline constexpr const char* kFileGatewayArgument = "--file-gateway";

// The arguments for file_gateway_main(), without the program's name.
std::vector<std::string> file_gateway_arguments(const FileGatewaySettings& settings);

// Runs until the mediator shuts down its end of the inherited socket (descriptor 3) for writing:
// then takes no further request, answers the current ones, and returns. Returns the exit status.
int file_gateway_main(int argc, const char* const* argv);

}  // namespace vgpu
