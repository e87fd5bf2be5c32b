# The flags of each preset; ARTEL_BUILD names it.
set(ARTEL_BUILD release CACHE STRING "release, debug, asan, tsan, coverage or fuzz")

set(CMAKE_C_STANDARD 23)
set(CMAKE_C_EXTENSIONS ON)
set(CMAKE_C_STANDARD_REQUIRED ON)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)

add_compile_definitions(_GNU_SOURCE _FILE_OFFSET_BITS=64)
add_compile_options(
  -Wall -Wextra -Wpedantic -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wconversion
  -Wsign-conversion -Wcast-qual -Wundef -Wformat=2 -Wvla -Werror -g -fno-omit-frame-pointer)

if(CMAKE_C_COMPILER_ID STREQUAL "GNU")
  add_compile_options(-Wimplicit-fallthrough=5 -Wduplicated-cond -Wlogical-op)
endif()

if(ARTEL_BUILD STREQUAL "release")
  add_compile_options(-O2 -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=3 -fstack-protector-strong
                      -fstack-clash-protection -fcf-protection -Wnull-dereference)
  add_link_options(-pie -Wl,-z,relro,-z,now)
elseif(ARTEL_BUILD STREQUAL "debug")
  add_compile_options(-O0)
elseif(ARTEL_BUILD STREQUAL "asan")
  add_compile_options(-O1 -fsanitize=address,undefined -fno-sanitize-recover=all)
  add_link_options(-fsanitize=address,undefined)
elseif(ARTEL_BUILD STREQUAL "tsan")
  add_compile_options(-O1 -fsanitize=thread)
  add_link_options(-fsanitize=thread)
elseif(ARTEL_BUILD STREQUAL "coverage")
  add_compile_options(-O0 --coverage)
  add_link_options(--coverage)
elseif(ARTEL_BUILD STREQUAL "fuzz")
  add_compile_options(-O1 -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all)
  add_link_options(-fsanitize=address,undefined)
else()
  message(FATAL_ERROR "ARTEL_BUILD=${ARTEL_BUILD} is none of the presets")
endif()
