import Bootstrap
import Foundation

/// What configures the pages.
struct PageSettings: Sendable {
    /// The begin of every page's path, without a slash at its end.
    let prefix: String
    /// How long a person stays signed in.
    let lifetime: Duration
    /// Where customers reach LiteLLM, without a slash at its end.
    let proxy: String
    /// The file of Chart.js.
    let chartJS: String

    private static let localProxy = "http://127.0.0.1:4000"
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
            "LITELLM_PROXY_URL", .secret,
            "Where LiteLLM listens. The pages show how to call it, at \(localProxy) if this is empty. The doctor "
                + "checks its answer and its clock, unless this is empty."),
        Setting(
            "ADMIN_CHART_JS", .text, default: "/usr/share/javascript/chart.js/chart.min.js",
            "The file of Chart.js, from Debian's libjs-chart.js; without it pages have tables and no charts."),
    ]

    /// Reads ``table``; `nil` where the pages are switched off.
    init?(reading settings: SettingsReader) {
        let table = Self.table
        prefix = settings.parsed(table["ADMIN_PAGES_PREFIX"]) { text in
            let isOurs = ["/api", "/health", "/metrics"].contains { text == $0 || text.hasPrefix($0 + "/") }
            return !isOurs && text.wholeMatch(of: /(\/[A-Za-z0-9_~.\-]+)+/) != nil ? text : nil
        }
        lifetime = settings.duration(table["ADMIN_PAGES_LIFETIME"])
        // An address with a password is for the doctor, and is never shown.
        proxy = settings.secret(table["LITELLM_PROXY_URL"]).flatMap { Self.address($0.reveal()) } ?? Self.localProxy
        chartJS = settings.string(table["ADMIN_CHART_JS"])
        guard settings.bool(table["ADMIN_PAGES"]) else { return nil }
    }

    /// `text` without slashes at its end, if a shell and Python read it as it is; `nil` for other text.
    private static func address(_ text: String) -> String? {
        guard let url = URL(string: text), ["http", "https"].contains(url.scheme), url.host() != nil,
            url.user() == nil, text.wholeMatch(of: /[A-Za-z0-9.:\/_~%\[\]\-]+/) != nil
        else { return nil }
        return String(text.reversed().drop { $0 == "/" }.reversed())
    }
}
