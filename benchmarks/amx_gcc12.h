/* gcc 12's AMX intrinsics do not tell the compiler which memory they read, so it drops the stores before them.
   With `-include` of this file llama.cpp can be built by gcc 12 for processors with AMX: docs/guide/8-benchmarks.md */
#pragma once
#if defined(__AMX_TILE__) && defined(__GNUC__) && !defined(__clang__)
#include <immintrin.h>
#define _tile_loadconfig(config) \
  __asm__ volatile ("ldtilecfg\t%X0" :: "m" (*(const char (*)[64])(config)) : "memory")
#undef _tile_loadd_internal
#define _tile_loadd_internal(dst, base, stride) \
  __asm__ volatile ("tileloadd\t(%0,%1,1), %%tmm" #dst \
   :: "r" ((const void *) (base)), "r" ((long) (stride)) : "memory")
#undef _tile_stream_loadd_internal
#define _tile_stream_loadd_internal(dst, base, stride) \
  __asm__ volatile ("tileloaddt1\t(%0,%1,1), %%tmm" #dst \
   :: "r" ((const void *) (base)), "r" ((long) (stride)) : "memory")
#endif
