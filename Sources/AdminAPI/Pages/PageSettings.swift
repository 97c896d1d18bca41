import Bootstrap
import Foundation

/// What configures the pages.
struct PageSettings: Sendable {
    /// The begin of every page's path, without a slash at its end.
    let prefix: String
    /// How long a person stays signed in.
    let lifetime: Duration
    /// Where customers reach LiteLLM, without a slash at its end; `nil` where the operator has not said it.
    let proxy: String?
    /// The file of Chart.js.
    let chartJS: String

    static let defaultLifetime = Duration.seconds(168 * 3_600)

    static let table: SettingsTable = [
        Setting("ADMIN_PAGES", .boolean, default: "on", "Whether admin-api serves the pages."),
        Setting(
            "ADMIN_PAGES_PREFIX", .form("a path such as /dashboard"), default: "/dashboard",
            "The path at which the pages begin; / leads there."),
        Setting(
            "ADMIN_PAGES_LIFETIME", .duration(.seconds(300) ... .seconds(8_760 * 3_600)), default: "168h",
            "How long a person stays signed in to the pages."),
        Setting(
            "ADMIN_PROXY_URL", .form("an http or https URL without a password"),
            "Where customers reach LiteLLM. The pages show how to call it there; if this is empty, they ask for it."),
        Setting(
            "ADMIN_CHART_JS", .text, default: "/usr/share/javascript/chart.js/chart.min.js",
            "The file of Chart.js, from Debian's libjs-chart.js; without it pages have tables and no charts."),
    ]

    /// Reads ``table``; `nil` where the pages are switched off.
    init?(reading settings: SettingsReader) {
        let table = Self.table
        guard settings.bool(table["ADMIN_PAGES"]) else { return nil }
        prefix = settings.parsed(table["ADMIN_PAGES_PREFIX"]) { text in
            let isOurs = ["/api", "/health", "/metrics"].contains { text == $0 || text.hasPrefix($0 + "/") }
            return !isOurs && text.wholeMatch(of: /(\/[A-Za-z0-9_~.\-]+)+/) != nil ? text : nil
        }
        lifetime = settings.duration(table["ADMIN_PAGES_LIFETIME"])
        proxy = settings.optionalString(table["ADMIN_PROXY_URL"]).flatMap { text in
            let (address, setting) = (Self.address(text), table["ADMIN_PROXY_URL"])
            // The value may have a password, so the sentence does not repeat it.
            if address == nil { settings.reject(setting.name, "is not \(setting.form)") }
            return address
        }
        chartJS = settings.string(table["ADMIN_CHART_JS"])
    }

    /// `text` without slashes at its end, if a shell and Python read it as it is; `nil` for other text.
    private static func address(_ text: String) -> String? {
        guard let url = URL(string: text), ["http", "https"].contains(url.scheme), url.host() != nil,
            url.user() == nil, text.wholeMatch(of: /[A-Za-z0-9.:\/_~%\[\]\-]+/) != nil
        else { return nil }
        return String(text.reversed().drop { $0 == "/" }.reversed())
    }
}
