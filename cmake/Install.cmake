# What users get: the program, its manual, and its completion of shells. Pages and scripts are made
# by the program itself, from the table of verbs that --help is made from (src/cli/verbs.c).
include(GNUInstallDirs)

install(TARGETS artel RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})

# Nobody installs the other presets, and not every machine can start what they make.
if(ARTEL_BUILD STREQUAL "release" OR ARTEL_BUILD STREQUAL "debug")
  set(share ${CMAKE_BINARY_DIR}/share)
  add_custom_command(OUTPUT ${share}/stamp
    COMMAND ${CMAKE_COMMAND} -E rm -rf ${share}
    COMMAND ${CMAKE_COMMAND} -E make_directory ${share}/man1
    COMMAND artel help --man-pages ${share}/man1
    COMMAND artel completion bash > ${share}/artel
    COMMAND artel completion zsh > ${share}/_artel
    COMMAND artel completion fish > ${share}/artel.fish
    COMMAND ${CMAKE_COMMAND} -E touch ${share}/stamp
    DEPENDS artel
    COMMENT "Making manual and completion"
    VERBATIM)
  add_custom_target(share ALL DEPENDS ${share}/stamp)
  install(DIRECTORY ${share}/man1 DESTINATION ${CMAKE_INSTALL_MANDIR})
  install(FILES ${share}/artel DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions)
  install(FILES ${share}/_artel DESTINATION ${CMAKE_INSTALL_DATADIR}/zsh/site-functions)
  install(FILES ${share}/artel.fish DESTINATION ${CMAKE_INSTALL_DATADIR}/fish/vendor_completions.d)
endif()
