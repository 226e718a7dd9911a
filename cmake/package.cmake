# What the Debian package has beside programs, manual pages and completion, and the package itself
# by CPack: it finds Depends by dpkg-shlibdeps. Its maintainer scripts are in packaging/debian.
set(MASQ_SBIN ${CMAKE_INSTALL_FULL_SBINDIR})
set(MASQ_SHARE ${CMAKE_INSTALL_FULL_DATADIR}/masq)
set(made ${CMAKE_BINARY_DIR}/package)

foreach(unit masq.service masq-closed.service)
  configure_file(packaging/systemd/${unit}.in ${made}/${unit} @ONLY)
  # Where systemd looks, /usr merged or not.
  install(FILES ${made}/${unit} DESTINATION lib/systemd/system)
endforeach()
install(FILES packaging/systemd/closed.nft packaging/masq.toml DESTINATION ${MASQ_SHARE})
install(FILES packaging/masq.toml DESTINATION /etc/masq)

set(MASQ_DOC ${CMAKE_INSTALL_FULL_DATADIR}/doc/masq)
install(FILES README.md DESTINATION ${MASQ_DOC})
file(GLOB documents docs/*.md)
install(FILES ${documents} DESTINATION ${MASQ_DOC}/docs)
file(GLOB designs docs/design/*.md)
install(FILES ${designs} DESTINATION ${MASQ_DOC}/docs/design)
install(FILES packaging/debian/copyright DESTINATION ${MASQ_DOC})
# Debian wants the changes under this name, compressed, and without a time inside.
file(MAKE_DIRECTORY ${made})
execute_process(COMMAND gzip -9nc ${CMAKE_SOURCE_DIR}/CHANGELOG.md
                OUTPUT_FILE ${made}/changelog.gz COMMAND_ERROR_IS_FATAL ANY)
install(FILES ${made}/changelog.gz DESTINATION ${MASQ_DOC})

# Compressed pages, as Debian has them; the plain ones go.
install(
  CODE "file(GLOB pages \"\$ENV{DESTDIR}${CMAKE_INSTALL_FULL_MANDIR}/man*/*.[58]\")
  foreach(page \${pages})
    execute_process(COMMAND gzip -9nf \${page} COMMAND_ERROR_IS_FATAL ANY)
  endforeach()")

set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_NAME masq)
set(CPACK_PACKAGE_VERSION ${PROJECT_VERSION})
set(CPACK_PACKAGE_CONTACT "The masq project <root@localhost>")
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "IP masquerading gateway with its own BPF data path")
set(CPACK_DEBIAN_PACKAGE_DESCRIPTION
    "masq lets many hosts share one address. It runs on the machine between an
inner network and an outer one, gives everything that the inner hosts send
its own address, and brings the answers back to the right host. Nobody
outside can begin a conversation with an inner host.
.
The old commands ipchains, ipfwadm, ipmasqadm and ipportfw act on it.")
set(CPACK_PACKAGING_INSTALL_PREFIX ${CMAKE_INSTALL_PREFIX})
set(CPACK_SET_DESTDIR ON)
set(CPACK_STRIP_FILES ON)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_PACKAGE_SECTION net)
set(CPACK_DEBIAN_PACKAGE_PRIORITY optional)
# nft: what closes the machine before masq is up. diffutils is essential.
set(CPACK_DEBIAN_PACKAGE_DEPENDS nftables)
set(CPACK_DEBIAN_PACKAGE_CONTROL_STRICT_PERMISSION ON)
set(scripts ${CMAKE_SOURCE_DIR}/packaging/debian)
set(CPACK_DEBIAN_PACKAGE_CONTROL_EXTRA ${scripts}/conffiles ${scripts}/postinst ${scripts}/prerm
                                       ${scripts}/postrm)
include(CPack)
