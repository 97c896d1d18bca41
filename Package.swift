// swift-tools-version: 6.2
import PackageDescription

let settings: [SwiftSetting] = [
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("InternalImportsByDefault"),
    .enableUpcomingFeature("MemberImportVisibility"),
    .treatAllWarnings(as: .error),
]

let argumentParser: Target.Dependency = .product(name: "ArgumentParser", package: "swift-argument-parser")
let asyncHTTPClient: Target.Dependency = .product(name: "AsyncHTTPClient", package: "async-http-client")
let configuration: Target.Dependency = .product(name: "Configuration", package: "swift-configuration")
let crypto: Target.Dependency = .product(name: "Crypto", package: "swift-crypto")
let cryptoExtras: Target.Dependency = .product(name: "CryptoExtras", package: "swift-crypto")
let httpTypes: Target.Dependency = .product(name: "HTTPTypes", package: "swift-http-types")
let hummingbird: Target.Dependency = .product(name: "Hummingbird", package: "hummingbird")
let hummingbirdCore: Target.Dependency = .product(name: "HummingbirdCore", package: "hummingbird")
let hummingbirdTLS: Target.Dependency = .product(name: "HummingbirdTLS", package: "hummingbird")
let hummingbirdTesting: Target.Dependency = .product(name: "HummingbirdTesting", package: "hummingbird")
let inMemoryLogging: Target.Dependency = .product(name: "InMemoryLogging", package: "swift-log")
let lifecycle: Target.Dependency = .product(name: "ServiceLifecycle", package: "swift-service-lifecycle")
let logging: Target.Dependency = .product(name: "Logging", package: "swift-log")
let metrics: Target.Dependency = .product(name: "Metrics", package: "swift-metrics")
let mustache: Target.Dependency = .product(name: "Mustache", package: "swift-mustache")
let nioCore: Target.Dependency = .product(name: "NIOCore", package: "swift-nio")
let nioHTTP1: Target.Dependency = .product(name: "NIOHTTP1", package: "swift-nio")
let nioPosix: Target.Dependency = .product(name: "NIOPosix", package: "swift-nio")
let nioSSL: Target.Dependency = .product(name: "NIOSSL", package: "swift-nio-ssl")
let unixSignals: Target.Dependency = .product(name: "UnixSignals", package: "swift-service-lifecycle")

/// A library or executable of this package, with the house's compiler settings.
func target(_ name: String, _ dependencies: [Target.Dependency]) -> Target {
    .target(name: name, dependencies: dependencies, swiftSettings: settings)
}

/// A program that users run, in `Sources/<name>`, with the house's compiler settings.
func executable(_ name: String, _ dependencies: [Target.Dependency], resources: [Resource] = []) -> Target {
    .executableTarget(name: name, dependencies: dependencies, resources: resources, swiftSettings: settings)
}

/// A program for developers, in `Tools/<name>`. It is no product, so nothing builds it except the tests and `make`.
func tool(_ name: String, _ dependencies: [Target.Dependency]) -> Target {
    .executableTarget(
        name: name, dependencies: dependencies, path: "Tools/\(name)", swiftSettings: settings)
}

/// The tests of the target `name`, in `Tests/<name>Tests`.
func tests(of name: String, _ dependencies: [Target.Dependency], exclude: [String] = []) -> Target {
    .testTarget(
        name: "\(name)Tests", dependencies: [.target(name: name)] + dependencies, exclude: exclude,
        swiftSettings: settings)
}

let package = Package(
    name: "codexflow",
    products: [
        .executable(name: "webhook-api", targets: ["WebhookAPI"]),
        .executable(name: "admin-api", targets: ["AdminAPI"]),
        .executable(name: "aggregation-worker", targets: ["AggregationWorker"]),
        .executable(name: "codexflow", targets: ["CodexFlow"]),
    ],
    dependencies: [
        .package(url: "https://github.com/apple/swift-argument-parser", exact: "1.8.2"),
        .package(url: "https://github.com/apple/swift-configuration", exact: "1.4.0"),
        .package(url: "https://github.com/apple/swift-crypto", exact: "4.5.2"),
        .package(url: "https://github.com/apple/swift-http-types", exact: "1.8.0"),
        .package(url: "https://github.com/apple/swift-log", exact: "1.16.2"),
        .package(url: "https://github.com/apple/swift-metrics", exact: "2.13.0"),
        .package(url: "https://github.com/apple/swift-nio", exact: "2.101.2"),
        .package(url: "https://github.com/apple/swift-nio-ssl", exact: "2.37.6"),
        .package(url: "https://github.com/hummingbird-project/hummingbird", exact: "2.28.1"),
        .package(url: "https://github.com/hummingbird-project/swift-mustache", exact: "2.1.1"),
        .package(url: "https://github.com/swift-server/async-http-client", exact: "1.37.0"),
        .package(url: "https://github.com/swift-server/swift-service-lifecycle", exact: "2.13.0"),
    ],
    targets: [
        .systemLibrary(name: "CLibPQ", pkgConfig: "libpq", providers: [.apt(["libpq-dev"])]),
        .systemLibrary(name: "CMalloc"),
        .systemLibrary(name: "CCrypt", pkgConfig: "libcrypt", providers: [.apt(["libcrypt-dev"])]),
        .systemLibrary(name: "CZlib", pkgConfig: "zlib", providers: [.apt(["zlib1g-dev"])]),
        .target(
            name: "CSimdjson", cxxSettings: [.unsafeFlags(["-O2"])],
            linkerSettings: [.linkedLibrary("simdjson"), .linkedLibrary("stdc++")]),

        target("Postgres", ["CLibPQ", lifecycle, logging, metrics]),
        target("Domain", [crypto]),
        target("LiteLLM", ["CSimdjson", "Domain", crypto]),
        target("Passwords", ["CCrypt"]),
        target("Storage", ["Domain", "Postgres", crypto, lifecycle, logging, metrics]),
        target("Analytics", ["Domain", "Postgres", "Storage"]),
        target(
            "Bootstrap",
            ["CMalloc", "Domain", "Postgres", configuration, crypto, lifecycle, logging, metrics, unixSignals]),
        target(
            "HTTPSupport",
            [
                "Bootstrap", "CZlib", "Domain", "Postgres", argumentParser, crypto, cryptoExtras, httpTypes,
                hummingbird, hummingbirdCore, hummingbirdTLS, logging, metrics, nioCore, nioHTTP1, nioPosix, nioSSL,
            ]),

        executable(
            "WebhookAPI",
            [
                "Bootstrap", "Domain", "HTTPSupport", "LiteLLM", "Postgres", "Storage", argumentParser, httpTypes,
                hummingbird, lifecycle, logging, metrics, nioCore,
            ]),
        executable(
            "AdminAPI",
            [
                "Analytics", "Bootstrap", "Domain", "HTTPSupport", "Passwords", "Postgres", "Storage", argumentParser,
                crypto, httpTypes, hummingbird, lifecycle, logging, metrics, mustache, nioCore,
            ], resources: [.copy("Pages/Resources")]),
        executable(
            "AggregationWorker",
            [
                "Analytics", "Bootstrap", "Domain", "HTTPSupport", "Postgres", "Storage", argumentParser, httpTypes,
                hummingbird, lifecycle, logging, metrics,
            ]),
        executable(
            "CodexFlow",
            [
                "Analytics", "Bootstrap", "Domain", "HTTPSupport", "LiteLLM", "Passwords", "Postgres", "Storage",
                argumentParser, asyncHTTPClient, logging, nioCore, nioHTTP1, nioPosix, nioSSL,
            ]),

        .target(
            name: "TestSupport",
            dependencies: [
                "Analytics", "Domain", "Postgres", "Storage", asyncHTTPClient, crypto, logging, nioCore, nioHTTP1,
            ],
            path: "Tests/TestSupport", swiftSettings: settings),
        tool("Faults", ["TestSupport", argumentParser, unixSignals]),
        tool(
            "Bench",
            [
                "Analytics", "Domain", "LiteLLM", "Postgres", "Storage", "TestSupport", argumentParser, crypto, logging,
                unixSignals,
            ]),

        tests(of: "Postgres", ["TestSupport", lifecycle, logging]),
        tests(of: "Domain", ["TestSupport", crypto]),
        tests(of: "LiteLLM", ["Domain", "TestSupport"]),
        tests(of: "Passwords", ["TestSupport"]),
        tests(of: "Storage", ["Analytics", "Domain", "Postgres", "TestSupport", lifecycle, logging]),
        tests(
            of: "Analytics", ["Domain", "Postgres", "Storage", "TestSupport", logging], exclude: ["Snapshots"]),
        tests(of: "Bootstrap", ["Postgres", inMemoryLogging, lifecycle, logging, metrics]),
        tests(
            of: "HTTPSupport",
            [
                "Bootstrap", "CZlib", "Domain", "TestSupport", crypto, httpTypes, hummingbird, hummingbirdTesting,
                inMemoryLogging, logging, metrics, nioCore, nioPosix, nioSSL,
            ]),
        tests(
            of: "WebhookAPI",
            [
                "Bootstrap", "Domain", "HTTPSupport", "Postgres", "Storage", "TestSupport", asyncHTTPClient, httpTypes,
                hummingbird, hummingbirdTesting, lifecycle, logging, nioCore, nioHTTP1,
            ]),
        tests(
            of: "AdminAPI",
            [
                "Analytics", "Bootstrap", "Domain", "HTTPSupport", "Passwords", "Postgres", "Storage", "TestSupport",
                asyncHTTPClient, crypto, cryptoExtras, httpTypes, hummingbird, hummingbirdTesting, logging, nioCore,
                nioHTTP1, nioPosix,
            ]),
        tests(of: "AggregationWorker", ["Analytics", "Postgres", "Storage", "TestSupport"]),
        tests(
            of: "CodexFlow", ["Analytics", "Bootstrap", "Domain", "HTTPSupport", "Postgres", "Storage", "TestSupport"]),
        tests(of: "Bench", ["Analytics", "Domain", "LiteLLM", "Postgres", "Storage", "TestSupport"]),
        .testTarget(
            name: "DeploymentTests",
            dependencies: ["Postgres", "TestSupport", asyncHTTPClient, nioCore, nioHTTP1, nioPosix],
            swiftSettings: settings),
    ],
    swiftLanguageModes: [.v6],
    cxxLanguageStandard: .cxx17
)
