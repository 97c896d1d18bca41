import Crypto
import Domain
import Foundation
import HTTPSupport
import Mustache

/// The templates, texts and files of the pages, read once at the start.
struct PageResources: Sendable {
    /// A file that a browser loads.
    struct Asset: Sendable {
        let name: String
        let type: String
        let bytes: [UInt8]
        /// Changes with the bytes, so a browser may keep the file for ever.
        let version: String

        fileprivate init(_ name: String, _ type: String, _ bytes: [UInt8]) {
            (self.name, self.type, self.bytes) = (name, type, bytes)
            version = String(SHA256.hash(data: bytes).lowercaseHex.prefix(16))
        }
    }

    let templates: MustacheLibrary
    let texts: [Language: PageTexts]
    let assets: [String: Asset]

    /// The name of Chart.js among ``assets``. It is not there where Debian's package is not installed.
    static let chartLibrary = "chart.js"

    /// Reads the folder of this program's resources, and Chart.js from the file `chartJS`.
    ///
    /// - Throws: ``AppError`` `.unavailable` with what is missing or cannot be read.
    static func load(chartJS: String, executable: String = "/proc/self/exe") async throws -> PageResources {
        let folder = URL(fileURLWithPath: executable).resolvingSymlinksInPath().deletingLastPathComponent()
            .appendingPathComponent("codexflow_AdminAPI.resources/Resources")
        do {
            let templates = try await MustacheLibrary(directory: folder.appendingPathComponent("templates").path)
            var assets = [
                try asset("pages.css", "text/css; charset=utf-8", in: folder),
                try asset("pages.js", "text/javascript; charset=utf-8", in: folder),
                try asset("icon.svg", "image/svg+xml", in: folder),
            ]
            if let chart = FileManager.default.contents(atPath: chartJS) {
                assets.append(Asset(chartLibrary, "text/javascript; charset=utf-8", Array(chart)))
            }
            return PageResources(
                templates: templates, texts: try PageTexts.load(from: folder.appendingPathComponent("texts")),
                assets: Dictionary(uniqueKeysWithValues: assets.map { ($0.name, $0) }))
        } catch {
            throw AppError(
                .unavailable,
                "The files of the pages cannot be read: \(error). Install the folder "
                    + "codexflow_AdminAPI.resources beside admin-api, or set ADMIN_PAGES=off.")
        }
    }

    private static func asset(_ name: String, _ type: String, in folder: URL) throws -> Asset {
        Asset(name, type, Array(try Data(contentsOf: folder.appendingPathComponent("assets/\(name)"))))
    }
}

/// The words of the pages in one language. Each is a small template: `Resets {{time(resets_at)}}`.
struct PageTexts: Sendable {
    /// A file of texts that cannot be used.
    struct Fault: Error, CustomStringConvertible {
        let description: String
    }

    private let templates: [String: MustacheTemplate]
    /// The words themselves, for texts without a value inside.
    private let plain: [String: String]

    /// The text `name`; `nil` without one.
    subscript(name: String) -> String? { plain[name] }

    /// The names of all texts.
    var names: Set<String> { Set(plain.keys) }

    /// Reads every `.json` of `folder`: `{"name": {"en": "…", "tr": "…"}}`. A name is in one file only.
    ///
    /// - Throws: ``Fault``; an error of Foundation for a file that cannot be read.
    fileprivate static func load(from folder: URL) throws -> [Language: PageTexts] {
        var texts: [Language: [String: String]] = [:]
        for file in try FileManager.default.contentsOfDirectory(at: folder, includingPropertiesForKeys: nil)
        where file.pathExtension == "json" {
            guard let members = JSON(parsing: Array(try Data(contentsOf: file)))?.members else {
                throw Fault(description: "\(file.lastPathComponent) is not a JSON object")
            }
            for member in members {
                for language in Language.allCases {
                    guard let text = member.value[language.rawValue]?.text, texts[language]?[member.key] == nil else {
                        throw Fault(
                            description: "\(member.key) of \(file.lastPathComponent) has no \(language.rawValue), "
                                + "or is there twice")
                    }
                    texts[language, default: [:]][member.key] = text
                }
            }
        }
        return try texts.mapValues { plain in
            PageTexts(templates: try plain.mapValues { try MustacheTemplate(string: $0) }, plain: plain)
        }
    }
}

extension PageTexts: MustacheParent {
    func child(named name: String) -> Any? { templates[name] }
}

extension PageTone {
    /// The text `name` without values inside; `nil` without one.
    func text(_ name: String) -> String? { texts[name] }
}

/// What a template sees first: the page's values, and `t` with the texts.
struct PageRoot: MustacheParent {
    let values: View

    func child(named name: String) -> Any? { name == "t" ? values.page.texts : values.child(named: name) }
}
