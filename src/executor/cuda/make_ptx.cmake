# SPDX-License-Identifier: MIT
# Compiles a kernel to PTX that any driver from 418 on loads.
#   cmake -DNVCC=<nvcc> -DSOURCE=<file.cu> -DOUT=<file.ptx> -P make_ptx.cmake
#
# nvcc stamps its own PTX version on what it writes, and a driver refuses a version newer than
# itself, whatever the instructions are. The kernels here use none that PTX 6.4 lacks, so that
# version is what the file claims; the driver's assembler holds it to that. The target is sm_75
# (Turing), the oldest that current toolkits compile for; newer GPUs run it as well. Comments carry
# the compiler's build number and are left out.
execute_process(COMMAND ${NVCC} -arch=compute_75 --ptx -o ${OUT}.raw ${SOURCE}
                RESULT_VARIABLE status)
if(NOT status EQUAL 0)
    message(FATAL_ERROR "nvcc failed on ${SOURCE}")
endif()
file(READ "${OUT}.raw" text)
string(REGEX REPLACE "(^|\n)[ \t]*//[^\n]*" "" text "${text}")
string(REGEX REPLACE "\\.version [0-9]+\\.[0-9]+" ".version 6.4" text "${text}")
# Names of internal linkage hold a hash of the source's path: the same text from every folder.
string(REGEX REPLACE "(_INTERNAL|_GLOBAL__N_)_[0-9a-f]+_" "\\1_00000000_" text "${text}")
string(REGEX REPLACE "^\n+" "" text "${text}")
file(WRITE "${OUT}" "${text}")
file(REMOVE "${OUT}.raw")
