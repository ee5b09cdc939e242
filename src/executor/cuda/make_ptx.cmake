# SPDX-License-Identifier: MIT
# Compiles a kernel to PTX that every driver from version 418 on can load.
#   cmake -DNVCC=<nvcc> -DSOURCE=<file.cu> -DOUT=<file.ptx> -P make_ptx.cmake
#
# nvcc emits its own PTX version, and a driver rejects a version newer than its own, whatever the
# instructions are. The kernels here use no instruction newer than PTX 6.4, so the file claims that
# version, and the driver's assembler enforces it. The target is sm_75 (Turing), the oldest that
# current toolkits compile for; newer GPUs run it as well. Comments contain the compiler's build
# number and are removed.
execute_process(COMMAND ${NVCC} -arch=compute_75 --ptx -o ${OUT}.raw ${SOURCE}
                RESULT_VARIABLE status)
if(NOT status EQUAL 0)
    message(FATAL_ERROR "nvcc failed on ${SOURCE}")
endif()
file(READ "${OUT}.raw" text)
string(REGEX REPLACE "(^|\n)[ \t]*//[^\n]*" "" text "${text}")
string(REGEX REPLACE "\\.version [0-9]+\\.[0-9]+" ".version 6.4" text "${text}")
# Internal names contain a hash of the source's path. Removing it makes the text path-independent.
string(REGEX REPLACE "(_INTERNAL|_GLOBAL__N_)_[0-9a-f]+_" "\\1_00000000_" text "${text}")
string(REGEX REPLACE "^\n+" "" text "${text}")
file(WRITE "${OUT}" "${text}")
file(REMOVE "${OUT}.raw")
