#include "CSimdjson.h"

#include <cstring>

// With AVX2 the scan takes half the time. Only functions that are inlined are compiled for AVX2 with their caller.
#if defined(__x86_64__) && defined(__linux__)
#define CLONED_FOR_AVX2 __attribute__((target_clones("avx2", "default")))
#else
#define CLONED_FOR_AVX2
#endif

namespace {

constexpr size_t block_size = 64;
typedef uint8_t block __attribute__((ext_vector_type(block_size)));
typedef bool flags __attribute__((ext_vector_type(block_size)));

// One bit a byte, the first byte lowest.
[[gnu::always_inline]] inline uint64_t bits(const flags &set) {
    uint64_t mask;
    static_assert(sizeof(set) == sizeof(mask));
    std::memcpy(&mask, &set, sizeof(mask));
    return mask;
}

// Sets the bits from each odd quote up to the next one: the insides of strings.
inline uint64_t fill_between(uint64_t quotes) {
    for (int shift = 1; shift < 64; shift *= 2) quotes ^= quotes << shift;
    return quotes;
}

// Follows strings and nesting from block to block.
class scanner {
   public:
    // The position after the closing bracket of depth 0 in this block, or 0.
    [[gnu::always_inline]] size_t next(const block &bytes) {
        const uint64_t quotes = bits(__builtin_convertvector(bytes == '"', flags)) & ~escaped(bytes);
        const uint64_t strings = fill_between(quotes) ^ inside_string;
        inside_string = uint64_t(int64_t(strings) >> 63);
        const block braces = bytes | 0x20;  // '[' becomes '{', and ']' becomes '}'
        uint64_t opening = bits(__builtin_convertvector(braces == '{', flags)) & ~strings;
        uint64_t closing = bits(__builtin_convertvector(braces == '}', flags)) & ~strings;
        const size_t closed = size_t(__builtin_popcountll(closing));
        if (closed < depth) {
            depth += size_t(__builtin_popcountll(opening)) - closed;
            return 0;
        }
        for (uint64_t brackets = opening | closing; brackets != 0; brackets &= brackets - 1) {
            const int position = __builtin_ctzll(brackets);
            depth += (opening >> position & 1) ? 1 : -1;
            if (depth == 0) return size_t(position) + 1;
        }
        return 0;
    }

   private:
    size_t depth = 0;
    uint64_t inside_string = 0;
    uint64_t first_is_escaped = 0;

    // The characters after an odd number of backslashes; simdjson's arithmetic (generic/stage1/json_string_scanner.h).
    [[gnu::always_inline]] uint64_t escaped(const block &bytes) {
        uint64_t backslashes = bits(__builtin_convertvector(bytes == '\\', flags));
        if (backslashes == 0) {
            const uint64_t result = first_is_escaped;
            first_is_escaped = 0;
            return result;
        }
        constexpr uint64_t even = 0x5555555555555555;
        backslashes &= ~first_is_escaped;
        const uint64_t follows_backslash = backslashes << 1 | first_is_escaped;
        const uint64_t odd_starts = backslashes & ~even & ~follows_backslash;
        uint64_t even_ends;
        first_is_escaped = __builtin_add_overflow(odd_starts, backslashes, &even_ends);
        return (even ^ even_ends << 1) & follows_backslash;
    }
};

}  // namespace

CLONED_FOR_AVX2 size_t csimdjson_container_length(const char *text, size_t length) {
    scanner scanner;
    block bytes;
    size_t start = 0;
    for (; length - start >= block_size; start += block_size) {
        std::memcpy(&bytes, text + start, block_size);
        if (const size_t end = scanner.next(bytes)) return start + end;
    }
    bytes = 0;
    std::memcpy(&bytes, text + start, length - start);
    const size_t end = scanner.next(bytes);
    return end == 0 ? 0 : start + end;
}
