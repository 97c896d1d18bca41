internal import Foundation

/// Where the command lines write. Whatever comes from data is made visible here, so that no name, e-mail or message can
/// colour, move or forge what an operator reads.
package enum Terminal {
    /// Writes one line to standard output; a line break in it is escaped as well.
    package static func print(_ line: String) {
        Swift.print(line.visible)
    }

    /// Writes lines to standard output, each made visible.
    package static func print(lines: some Sequence<String>) {
        for line in lines { print(line) }
    }

    /// Writes a JSON text to standard output; it stands for the same value.
    package static func print(json: String) {
        Swift.print(json.visibleJSON)
    }

    /// Writes what is our own, such as a text with colours whose data went through ``Swift/String/visible``.
    package static func print(own text: String, terminator: String = "\n") {
        Swift.print(text, terminator: terminator)
    }

    /// Writes lines to standard error, each made visible.
    package static func complain(_ text: String) {
        let lines = text.split(separator: "\n", omittingEmptySubsequences: false).map { String($0).visible }
        FileHandle.standardError.write(Data((lines.joined(separator: "\n") + "\n").utf8))
    }
}
