#include "CSimdjson.h"

#include <simdjson.h>

#include <algorithm>
#include <array>
#include <exception>
#include <string>
#include <string_view>
#include <vector>

using namespace simdjson;

namespace {
constexpr size_t longest_name = 32;
constexpr int16_t none = -1;
}  // namespace

// Names by parent and length, so that most members are passed over without comparing a byte.
struct csimdjson_schema {
    struct member {
        std::string name;
        int16_t next_of_same_length = none;
        std::vector<int16_t> children;
    };
    using lengths = std::array<int16_t, longest_name + 1>;

    std::vector<member> members;
    std::vector<lengths> first_by_length;  // of the top at 0, of member i at i + 1

    csimdjson_schema(const csimdjson_field *fields, size_t count) : members(count), first_by_length(count + 1) {
        for (auto &first : first_by_length) first.fill(none);
        for (size_t i = 0; i < count; i++) {
            members[i].name = fields[i].name;
            auto &first = first_by_length[fields[i].parent + 1].at(members[i].name.size());
            members[i].next_of_same_length = first;
            first = int16_t(i);
            if (fields[i].parent >= 0) members[fields[i].parent].children.push_back(int16_t(i));
        }
    }

    int16_t find(int16_t parent, std::string_view name) const {
        if (name.size() > longest_name) return none;
        int16_t i = first_by_length[parent + 1][name.size()];
        while (i != none && members[i].name != name) i = members[i].next_of_same_length;
        return i;
    }
};

struct csimdjson_reader {
    ondemand::parser parser;
    std::string padded;
};

namespace {

// One walk over one object.
class walk {
   public:
    walk(const csimdjson_schema &schema, csimdjson_value *values) : schema(schema), values(values) {}

    error_code read(ondemand::object object, int16_t parent) {
        for (auto member : object) {
            ondemand::field field;
            SIMDJSON_TRY(std::move(member).get(field));
            const int16_t index = find(parent, field);
            if (index != none) SIMDJSON_TRY(read(field.value(), index));
        }
        return SUCCESS;
    }

   private:
    const csimdjson_schema &schema;
    csimdjson_value *values;

    int16_t find(int16_t parent, ondemand::field &field) const {
        const char *name = field.key().raw();
        size_t length = 0;
        for (; name[length] != '"'; length++) {
            if (length > longest_name) return none;
            if (name[length] == '\\') {
                std::string_view unescaped;
                return field.unescaped_key().get(unescaped) ? none : schema.find(parent, unescaped);
            }
        }
        return schema.find(parent, {name, length});
    }

    error_code read(ondemand::value &value, int16_t index) {
        forget_inside(index);
        std::string_view text = value.raw_json_token();
        if (text.front() == '{') {
            ondemand::object object;
            SIMDJSON_TRY(value.get_object().get(object));
            if (schema.members[index].children.empty()) {
                SIMDJSON_TRY(object.raw_json().get(text));
            } else {
                const char *end;
                SIMDJSON_TRY(read(object, index));
                SIMDJSON_TRY(value.current_location().get(end));
                text = {text.data(), size_t(end - text.data())};
            }
        } else if (text.front() == '[') {
            ondemand::array array;
            SIMDJSON_TRY(value.get_array().get(array));
            SIMDJSON_TRY(array.raw_json().get(text));
        }
        const size_t last = text.find_last_not_of(" \t\r\n");
        values[index] = {text.data(), last + 1};
        return SUCCESS;
    }

    // A repeated member replaces what the earlier one contained.
    void forget_inside(int16_t index) {
        if (values[index].start == nullptr) return;
        for (const int16_t child : schema.members[index].children) {
            forget_inside(child);
            values[child] = {nullptr, 0};
        }
    }
};

error_code read(
    csimdjson_reader &reader, const csimdjson_schema &schema, const char *text, size_t length, size_t readable,
    csimdjson_value *values) {
    ondemand::document document;
    ondemand::object object;
    SIMDJSON_TRY(reader.parser.iterate(text, length, readable).get(document));
    SIMDJSON_TRY(document.get_object().get(object));
    SIMDJSON_TRY(walk(schema, values).read(object, none));
    return document.current_location().error() == OUT_OF_BOUNDS ? SUCCESS : TRAILING_CONTENT;
}

}  // namespace

csimdjson_schema *csimdjson_schema_create(const csimdjson_field *fields, size_t count) {
    return new csimdjson_schema(fields, count);
}

csimdjson_reader *csimdjson_reader_create(void) { return new csimdjson_reader(); }

void csimdjson_reader_destroy(csimdjson_reader *reader) { delete reader; }

csimdjson_status csimdjson_read(
    csimdjson_reader *reader, const csimdjson_schema *schema, const char *text, size_t length, size_t readable,
    csimdjson_value *values) {
    std::fill_n(values, schema->members.size(), csimdjson_value{nullptr, 0});
    if (readable < length + SIMDJSON_PADDING) {
        reader->padded.assign(text, length).append(SIMDJSON_PADDING, ' ');
        text = reader->padded.data();
        readable = reader->padded.size();
    }
    switch (read(*reader, *schema, text, length, readable, values)) {
        case SUCCESS: return CSIMDJSON_OK;
        case UTF8_ERROR:
        case UNESCAPED_CHARS: return CSIMDJSON_INVALID_TEXT;
        case MEMALLOC: std::terminate();
        default: return CSIMDJSON_INVALID_JSON;
    }
}
