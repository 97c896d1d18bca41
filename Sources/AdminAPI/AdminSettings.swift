import Bootstrap
import HTTPSupport
import Logging
import Postgres
import Storage

/// Everything that configures admin-api.
struct AdminSettings: ServiceSettings {
    var server: HTTPServerSettings
    var origins: AllowedOrigins
    var database: DatabaseSettings
    var bodies: BodyReader
    /// `nil` where only tokens are accepted.
    var sessions: SessionReader?
    /// What an anonymous client gets that registers.
    var registration: Registration.Mode
    /// Logins and registrations that one address may try in a minute.
    var loginRate: Int
    /// The binary logarithm of the rounds of a password's hash.
    var passwordCost: UInt
    /// How long a token lives after it was made; `nil` for ever.
    var tokenLifetime: Duration?
    /// How Sanctum writes its tokens.
    var tokenForm: AccessToken.Form
    /// Whether users may report usage themselves (`POST /api/usage/log`).
    var takesReports: Bool
    /// How many streams of `/api/v1/stream` there may be.
    var streams: LiveHub.Limits
    /// The pages; `nil` where they are switched off.
    var pages: PageSettings?
    /// After which a request is answered 504.
    var requestTimeout: Duration
    var logLevel: Logger.Level

    private static let ownURL = "ADMIN_DATABASE_URL"
    private static let bodyLimit = 1 << 20

    /// Every setting of admin-api.
    static let table: SettingsTable =
        HTTPServerSettings.table(prefix: "ADMIN", defaultPort: 8082) + AllowedOrigins.table(prefix: "ADMIN")
        + DatabaseSettings.table(ownURL: ownURL) + BodyReader.table(prefix: "ADMIN", limit: bodyLimit)
        + LaravelSessions.table + own + PageSettings.table
        + [SettingsReader.logLevelSetting, SettingsReader.fileSetting]

    private static let own: SettingsTable = [
        Setting(
            "ADMIN_REQUEST_TIMEOUT", .duration(.milliseconds(100) ... .seconds(600)), default: "20s",
            "The time after which a request is answered 504; an export may take an hour."),
        Setting(
            "ADMIN_STATEMENT_TIMEOUT", .duration(.milliseconds(100) ... .seconds(600)), default: "15s",
            "The time after which PostgreSQL cancels a statement."),
        Setting(
            "ADMIN_REGISTRATION", .word(Registration.Mode.allCases.map(\.rawValue)), default: "off",
            "What POST /api/auth/register does: off answers 403; verified makes an account whose limits are zero "
                + "until users.email_verified_at is set; open gives a plan's limits at once, to anyone."),
        Setting(
            "ADMIN_LOGIN_RATE", .number(1...100_000), default: "60",
            "Logins and registrations a minute from one address, which is a /64 in IPv6."),
        Setting(
            "ADMIN_USAGE_LOG", .word(["off", "on"]), default: "off",
            "Whether users may report usage themselves by POST /api/usage/log; totals of all users leave it out."),
        Setting(
            "ADMIN_STREAMS", .number(1...100_000), default: "1000",
            "How many streams of GET /api/v1/stream are open at once, beside ADMIN_MAX_CONNECTIONS."),
        Setting("ADMIN_STREAMS_PER_USER", .number(1...100_000), default: "10", "How many of them one user may have."),
        Setting(
            "ADMIN_STREAM_LIFETIME", .duration(.milliseconds(100) ... .seconds(86_400)), default: "1h",
            "The time after which a stream ends; a browser goes on with another one."),
        Setting(
            "BCRYPT_ROUNDS", .number(4...15), default: "12",
            "The cost of Laravel's password hashes; a login with an unknown e-mail takes as long as one with a known."),
        Setting(
            "SANCTUM_EXPIRATION", .number(0...52_560_000), default: "0",
            "How many minutes a token of Sanctum lives after it was made; 0 is for ever."),
        Setting("SANCTUM_TOKEN_PREFIX", .text, "What Sanctum's tokens begin with, as in config/sanctum.php."),
        Setting(
            "SANCTUM_TOKENABLE_TYPE", .text,
            "The aliases of users in Laravel's morph map, separated by commas; new tokens get the first one."),
        Setting("AUTH_MODEL", .text, default: #"App\Models\User"#, "The class of Laravel's users."),
    ]

    /// Reads ``table``.
    init(reading settings: SettingsReader) {
        let table = Self.own
        server = HTTPServerSettings(reading: settings, prefix: "ADMIN", defaultPort: 8082)
        origins = AllowedOrigins(reading: settings, prefix: "ADMIN")
        database = DatabaseSettings(reading: settings, applicationName: "admin-api", ownURL: Self.ownURL)
        database.connection.statementTimeout = settings.duration(table["ADMIN_STATEMENT_TIMEOUT"])
        database.connection.lockTimeout = .seconds(5)
        bodies = BodyReader(
            reading: settings, prefix: "ADMIN", limit: Self.bodyLimit, senders: .anyone, deadline: .seconds(10))
        sessions = SessionReader(reading: settings)
        let modes = Registration.Mode.allCases.map { ($0.rawValue, $0) }
        registration = settings.choice(table["ADMIN_REGISTRATION"], of: Dictionary(uniqueKeysWithValues: modes))
        loginRate = settings.int(table["ADMIN_LOGIN_RATE"])
        passwordCost = UInt(settings.int(table["BCRYPT_ROUNDS"]))
        let minutes = settings.int(table["SANCTUM_EXPIRATION"])
        tokenLifetime = minutes == 0 ? nil : .seconds(60 * minutes)
        tokenForm = Self.tokenForm(settings, table)
        takesReports = settings.choice(table["ADMIN_USAGE_LOG"], of: ["off": false, "on": true])
        streams = LiveHub.Limits(
            readers: settings.int(table["ADMIN_STREAMS"]), readersOfUser: settings.int(table["ADMIN_STREAMS_PER_USER"]),
            lifetime: settings.duration(table["ADMIN_STREAM_LIFETIME"]))
        pages = PageSettings(reading: settings)
        requestTimeout = settings.duration(table["ADMIN_REQUEST_TIMEOUT"])
        logLevel = settings.logLevel()
    }

    /// How Sanctum names the owners of tokens. Laravel reads their class too where they have an alias.
    private static func tokenForm(_ settings: SettingsReader, _ table: SettingsTable) -> AccessToken.Form {
        let model = settings.string(table["AUTH_MODEL"])
        let aliases = settings.optionalString(table["SANCTUM_TOKENABLE_TYPE"]).map { $0.split(separator: ",") } ?? []
        let owners = (aliases + [model[...]]).map(\.trimmingSpaces).map { String($0.trimmingPrefix(#"\"#)) }
        if owners.contains(where: { $0.isEmpty || $0.utf8.count > 255 }) {
            settings.reject("SANCTUM_TOKENABLE_TYPE", "is not a list of classes or aliases, such as user")
        }
        return AccessToken.Form(owners: owners, prefix: settings.string(table["SANCTUM_TOKEN_PREFIX"]))
    }
}
