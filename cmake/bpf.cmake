# Compiles a C++ source for the kernel's BPF machine and embeds the object in a library, so that the
# programs need no file at run time.
find_program(MASQ_BPF_CLANG NAMES clang++-19 REQUIRED)

# A library that holds the bytes of a file, between <name>_begin and <name>_end.
function(masq_embed name file)
  set(assembly ${CMAKE_CURRENT_BINARY_DIR}/${name}.S)
  file(
    WRITE ${assembly}.new
    ".section .rodata\n.balign 8\n.global ${name}_begin\n${name}_begin:\n.incbin \"${file}\"\n"
    ".global ${name}_end\n${name}_end:\n.byte 0\n.section .note.GNU-stack,\"\",@progbits\n")
  file(COPY_FILE ${assembly}.new ${assembly} ONLY_IF_DIFFERENT)
  set_source_files_properties(${assembly} PROPERTIES OBJECT_DEPENDS ${file} COMPILE_OPTIONS "-w")
  add_library(${name} STATIC ${assembly})
endfunction()

function(masq_bpf_object name source)
  set(object ${CMAKE_CURRENT_BINARY_DIR}/${name}.o)
  add_custom_command(
    OUTPUT ${object}
    COMMAND
      ${MASQ_BPF_CLANG} -target bpf -mcpu=v3 -O2 -g -std=c++20 -fno-exceptions -fno-rtti
      -ffreestanding -Wall -Wextra -Werror -I${CMAKE_SOURCE_DIR}/src -isystem
      /usr/include/${CMAKE_LIBRARY_ARCHITECTURE} -fdebug-prefix-map=${CMAKE_SOURCE_DIR}/=
      -fdebug-compilation-dir=. -MD -MF ${object}.d -c ${CMAKE_SOURCE_DIR}/${source} -o ${object}
    DEPENDS ${CMAKE_SOURCE_DIR}/${source}
    DEPFILE ${object}.d
    COMMENT "Compiling ${source} for the kernel"
    VERBATIM)
  masq_embed(${name} ${object})
endfunction()
