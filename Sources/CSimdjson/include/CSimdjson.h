// Reads chosen fields of a JSON object with simdjson, and finds where a JSON object or array ends.
// Nothing here is unescaped, converted or copied: a value is the bytes of the text it stands in.
#ifndef CSIMDJSON_H
#define CSIMDJSON_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

// One wanted member: its name, and the index of the wanted member that it is inside of, or -1 at the top. A parent
// stands before its children.
typedef struct {
    const char *name;
    int32_t parent;
} csimdjson_field;

// The text of a value, without white space around it; `start` is NULL where the object has no such member. Of members
// with one name the last counts.
typedef struct {
    const char *start;
    size_t length;
} csimdjson_value;

typedef enum {
    CSIMDJSON_OK,
    CSIMDJSON_INVALID_TEXT,  // not UTF-8, or a control character inside a string
    CSIMDJSON_INVALID_JSON,
} csimdjson_status;

// The wanted members, prepared for lookups; immutable, so that threads can share it.
typedef struct csimdjson_schema csimdjson_schema;
csimdjson_schema *csimdjson_schema_create(const csimdjson_field *fields, size_t count);

// A parser and its memory, which grows with the largest object; for one thread at a time.
typedef struct csimdjson_reader csimdjson_reader;
csimdjson_reader *csimdjson_reader_create(void);
void csimdjson_reader_destroy(csimdjson_reader *reader);

// Reads one object of `length` bytes. `readable` is how many bytes may be read from `text` on; where it does not exceed
// `length` by 64, the text is copied, and `values` point into that copy until the next read. Ends the process where
// memory is exhausted, as Swift does.
csimdjson_status csimdjson_read(
    csimdjson_reader *reader, const csimdjson_schema *schema, const char *text, size_t length, size_t readable,
    csimdjson_value *values);

// The length of the object or array that `text` begins with, whatever it contains; 0 where it does not end.
size_t csimdjson_container_length(const char *text, size_t length);

#ifdef __cplusplus
}
#endif

#endif
