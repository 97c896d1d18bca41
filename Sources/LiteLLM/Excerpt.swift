/// An excerpt of an unreadable text: its shape, without its own words.
///
/// It has JSON's brackets, commas and colons, and the names of members of LiteLLM's shape and the documented shape. It
/// has the values of a few of these members if they are numbers, `true`, `false`, `null`, a status, a kind of call, or
/// the UUID of a call. Everything else becomes `<n>`, its length in bytes.
enum Excerpt {
    /// The bytes of the text that are read.
    static let scannedLength = 65_536
    /// The most bytes of an excerpt.
    static let maximumLength = 2_048

    /// The excerpt of `text`.
    static func of(_ text: UnsafeRawBufferPointer) -> String {
        var skeleton = Skeleton(text: UnsafeRawBufferPointer(rebasing: text.prefix(scannedLength)))
        return skeleton.write()
    }

    /// The values of a member that may appear.
    private enum Allowed {
        case number, truth, uuid
        case words(Set<String>)
        /// None, but the rules of its own members apply inside it.
        case nothing

        func allows(_ value: some Collection<UInt8>) -> Bool {
            guard value.count <= 40 else { return false }
            let text = String(decoding: value, as: UTF8.self)
            switch self {
            case .number:
                return text == "null" || text.wholeMatch(of: /-?[0-9]{1,20}(\.[0-9]{1,20})?(e-?[0-9]{1,3})?/) != nil
            case .truth: return ["true", "false", "null"].contains(text)
            case .uuid: return text.wholeMatch(of: /[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}/) != nil
            case .words(let words): return words.contains(text)
            case .nothing: return false
            }
        }
    }

    private static let calls: Set<String> = [
        "acompletion", "completion", "atext_completion", "text_completion", "aembedding", "embedding",
        "aimage_generation", "image_generation", "aresponses", "responses", "anthropic_messages", "amoderation",
        "aspeech", "atranscription", "arerank",
    ]

    private static let members: [String: Allowed] = {
        var members: [String: Allowed] = [:]
        for field in Field.allCases { members[field.member.name] = .nothing }
        for name in ["messages", "content", "role", "choices", "model_map_information", "hidden_params"] {
            members[name] = .nothing
        }
        for name in [
            "startTime", "endTime", "completionStartTime", "response_cost", "prompt_tokens", "completion_tokens",
            "total_tokens", "cached_tokens", "reasoning_tokens", "cost", "response_time",
        ] { members[name] = .number }
        for name in ["stream", "cache_hit", "codexflow_usage_estimated"] { members[name] = .truth }
        for name in ["litellm_call_id", "event_id"] { members[name] = .uuid }
        members["status"] = .words(["success", "failure", "failed", "error", "rate_limited"])
        members["call_type"] = .words(calls)
        return members
    }()

    /// A walk over a text, token by token, as far as the excerpt has room.
    private struct Skeleton {
        let text: UnsafeRawBufferPointer
        private var position = 0
        private var result: [UInt8] = []
        /// The values allowed for the next token, after a known member's name and its colon.
        private var allowed: Allowed?

        init(text: UnsafeRawBufferPointer) {
            self.text = text
        }

        mutating func write() -> String {
            while position < text.count {
                guard result.count < Excerpt.maximumLength else {
                    result += "…".utf8
                    break
                }
                switch text[position] {
                case UInt8(ascii: "{"), UInt8(ascii: "}"), UInt8(ascii: "["), UInt8(ascii: "]"), UInt8(ascii: ","):
                    allowed = nil
                    takeMark()
                case UInt8(ascii: ":"): takeMark()
                case UInt8(ascii: "\""): takeString()
                case let byte where byte.isSpace: position += 1
                default: takeWords()
                }
            }
            return String(decoding: result, as: UTF8.self)
        }

        private mutating func takeMark() {
            result.append(text[position])
            position += 1
        }

        private mutating func takeString() {
            let end = JSONString.length(in: text[position...]).map { position + $0 }
            let content = text[(position + 1)..<(end.map { $0 - 1 } ?? text.count)]
            position = end ?? text.count
            let rest = text[position...].first { !$0.isSpace }
            // No known name is longer.
            let member =
                end != nil && rest == UInt8(ascii: ":") && content.count <= 40
                ? Excerpt.members[String(decoding: content, as: UTF8.self)] : nil
            if member != nil || (end != nil && allowed?.allows(content) == true) {
                result += [UInt8(ascii: "\"")] + content + [UInt8(ascii: "\"")]
            } else {
                keepLength(of: content)
            }
            allowed = member
        }

        /// A number, `true`, `false`, `null`, or other text up to the next bracket, comma, colon or quote.
        private mutating func takeWords() {
            let words = text[position...].prefix { byte in
                !(byte == UInt8(ascii: "\"") || byte == UInt8(ascii: ",") || byte == UInt8(ascii: ":")
                    || byte == UInt8(ascii: "{") || byte == UInt8(ascii: "}") || byte == UInt8(ascii: "[")
                    || byte == UInt8(ascii: "]"))
            }
            position += words.count
            let value = words.prefix { !$0.isSpace }
            let isWhole = words.dropFirst(value.count).allSatisfy(\.isSpace)
            if isWhole, position < text.count, allowed?.allows(value) == true {
                result += value
            } else {
                keepLength(of: words)
            }
            allowed = nil
        }

        private mutating func keepLength(of part: some Collection<UInt8>) {
            result += "<\(part.count)>".utf8
        }
    }
}
