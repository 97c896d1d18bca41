internal import CSimdjson

/// Walks over a body once and finds its documents: the elements of an array, or objects one after another, with or
/// without line breaks between them.
///
/// Each is parsed alone, so that a broken one hides no other and the parser's memory is bounded by the largest.
struct BodySplitter: Sequence, IteratorProtocol {
    enum Part: Hashable {
        /// A complete JSON value, judged by its brackets and quotes.
        case document(Range<Int>)
        /// Text that does not end as a value must. In an array it is all the rest, which may be empty.
        case broken(Range<Int>)
    }

    let body: UnsafeRawBufferPointer
    /// Whether an array was entered.
    private(set) var hasArray = false
    private var position = 0
    private var partsLeft: Int
    private var isInArray = false
    private var needsComma = false
    /// Whether an object did not end. Then the next objects are found only at the begin of a line.
    private var isByLine = false
    private var lineEnd = 0

    /// Begins before the first document. After `maximumParts` parts the rest is one more part, which is broken.
    init(body: UnsafeRawBufferPointer, maximumParts: Int) {
        self.body = body
        partsLeft = maximumParts
        if body.starts(with: [0xEF, 0xBB, 0xBF]) { position = 3 }
        skipSpace()
    }

    /// Whether nothing is left.
    var isAtEnd: Bool { position == body.count && !isInArray }

    mutating func next() -> Part? {
        while position < body.count {
            if take(isInArray ? "]" : "[") {
                isInArray.toggle()
                hasArray = true
                needsComma = false
                continue
            }
            guard partsLeft > 0 else { return takeRest() }
            partsLeft -= 1
            return isInArray ? nextElement() : nextDocument()
        }
        return isInArray ? takeRest() : nil
    }

    private mutating func nextElement() -> Part {
        let start = position
        guard !needsComma, let length = elementLength() else { return takeRest() }
        advance(by: length)
        needsComma = !take(",")
        return .document(start..<(start + length))
    }

    private mutating func nextDocument() -> Part {
        let start = position
        if isByLine, start >= lineEnd { lineEnd = nextObjectLine(after: start) }
        if let length = documentLength(end: isByLine ? lineEnd : body.count) {
            advance(by: length)
            return .document(start..<(start + length))
        }
        isByLine = true
        lineEnd = nextObjectLine(after: start)
        advance(by: lineEnd - start)
        return .broken(start..<lineEnd)
    }

    private mutating func takeRest() -> Part {
        defer {
            position = body.count
            isInArray = false
        }
        return .broken(position..<body.count)
    }

    private func elementLength() -> Int? {
        switch body[position] {
        case UInt8(ascii: "{"), UInt8(ascii: "["): return containerLength(end: body.count)
        case UInt8(ascii: "\""): return JSONString.length(in: body[position...])
        default:
            let end = body[position...].firstIndex { $0 == UInt8(ascii: ",") || $0 == UInt8(ascii: "]") || $0.isSpace }
            return end.flatMap { $0 > position ? $0 - position : nil }
        }
    }

    private func documentLength(end: Int) -> Int? {
        if body[position] == UInt8(ascii: "{") { return containerLength(end: end) }
        let line = body[position..<end].prefix { $0 != UInt8(ascii: "\n") }
        let length = (line.lastIndex { !$0.isSpace } ?? position) + 1 - position
        let text = UnsafeRawBufferPointer(rebasing: line.prefix(length))
        return JSONValue(bytes: text).isScalar ? length : nil
    }

    private func containerLength(end: Int) -> Int? {
        let text = UnsafeRawBufferPointer(rebasing: body[position..<end])
        let length = csimdjson_container_length(text.assumingMemoryBound(to: CChar.self).baseAddress, text.count)
        return length == 0 ? nil : length
    }

    /// The begin of the next line that begins with an object. No string of a JSON text contains a line break.
    private func nextObjectLine(after start: Int) -> Int {
        let lines = zip(body[start...], body[start...].dropFirst())
        let offset = lines.enumerated().first { $0.element == (UInt8(ascii: "\n"), UInt8(ascii: "{")) }?.offset
        return offset.map { start + $0 + 1 } ?? body.count
    }

    private mutating func take(_ character: Unicode.Scalar) -> Bool {
        guard position < body.count, body[position] == UInt8(ascii: character) else { return false }
        advance(by: 1)
        return true
    }

    private mutating func advance(by length: Int) {
        position += length
        skipSpace()
    }

    private mutating func skipSpace() {
        while position < body.count, body[position].isSpace { position += 1 }
    }
}

extension UInt8 {
    /// White space between JSON's tokens (RFC 8259 §2).
    var isSpace: Bool { self == 0x20 || self == 0x0A || self == 0x0D || self == 0x09 }

    var isDigit: Bool { self >= 0x30 && self <= 0x39 }
}
