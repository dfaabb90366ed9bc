/* A second translation unit with the header: what it defines must not meet the first one's. */
#include "twinstream.h"

uint32_t other_unit_abi_version(void);

uint32_t other_unit_abi_version(void) { return TWINSTREAM_ABI_VERSION; }
