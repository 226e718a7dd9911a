# The manual pages and the completion, made of what the programs that were built say of themselves.
find_package(Python3 REQUIRED COMPONENTS Interpreter)

set(MASQ_PAGES_5 masq.toml.5)
set(MASQ_PAGES_8 masq.8 masqd.8)
foreach(name ${OLD_COMMANDS})
  list(APPEND MASQ_PAGES_8 ${name}.8)
endforeach()
set(MASQ_PAGES_FOLDER ${CMAKE_BINARY_DIR}/pages)
set(MASQ_PAGES masq.bash ${MASQ_PAGES_5} ${MASQ_PAGES_8})
list(TRANSFORM MASQ_PAGES PREPEND ${MASQ_PAGES_FOLDER}/)
file(GLOB MASQ_PAGES_IN CONFIGURE_DEPENDS packaging/man/*.in)

add_custom_command(
  OUTPUT ${MASQ_PAGES}
  COMMAND ${Python3_EXECUTABLE} ${CMAKE_SOURCE_DIR}/packaging/make_pages.py
          ${CMAKE_RUNTIME_OUTPUT_DIRECTORY} ${MASQ_PAGES_FOLDER}
  DEPENDS masq masqd masq-old packaging/make_pages.py docs/configuration.md ${MASQ_PAGES_IN}
  COMMENT "Making the manual pages and the completion"
  VERBATIM)
# Programs with sanitizers are for tests, and may say more than their help.
if(MASQ_SANITIZE STREQUAL "")
  add_custom_target(masq_pages ALL DEPENDS ${MASQ_PAGES})
endif()

foreach(section 5 8)
  foreach(page ${MASQ_PAGES_${section}})
    install(FILES ${MASQ_PAGES_FOLDER}/${page} DESTINATION ${CMAKE_INSTALL_MANDIR}/man${section})
  endforeach()
endforeach()
foreach(name masq masqd)
  install(
    FILES ${MASQ_PAGES_FOLDER}/masq.bash
    DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions
    RENAME ${name})
endforeach()
