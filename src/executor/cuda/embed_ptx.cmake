# SPDX-License-Identifier: MIT
# Writes a C++ file that contains a PTX file as a string.
#   cmake -DPTX=<file> -DCONSTANT=<name> -DOUT=<file> -P embed_ptx.cmake
file(READ "${PTX}" text)
file(WRITE "${OUT}" "// Made from ${CONSTANT}'s PTX by the build.\n#include \"executor/cuda/kernels.h\"\n
namespace vgpu::cuda {\nconst char* const ${CONSTANT} = R\"ptx(${text})ptx\";\n}\n")
