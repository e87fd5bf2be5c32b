# artel_module(NAME [MODULES lower ...] [LIBRARIES pkg-config-or-library ...])
#
# One folder of src/ is one static library, artel_NAME, made of all its .c files. MODULES are the
# modules below it that it uses; tools/check-includes holds the sources to the floors.
function(artel_module name)
  cmake_parse_arguments(ARG "" "" "MODULES;LIBRARIES" ${ARGN})
  file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/${name}/*.c)
  add_library(artel_${name} STATIC ${sources})
  target_include_directories(artel_${name} PUBLIC ${CMAKE_SOURCE_DIR}/src)
  list(TRANSFORM ARG_MODULES PREPEND artel_)
  target_link_libraries(artel_${name} PUBLIC ${ARG_MODULES} ${ARG_LIBRARIES})
endfunction()
