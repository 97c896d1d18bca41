import Analytics
import Domain
import Foundation
import HTTPSupport
import HTTPTypes
import Hummingbird
import Logging
import Mustache
import NIOCore
import Storage

/// Serves the table of pages: finds out who asks, checks forms, limits the time, and writes HTML.
struct PageServer: Sendable {
    let authenticator: Authenticator
    let resources: PageResources
    /// The begin of every page's path, without a slash at its end, such as `/dashboard`.
    let prefix: String
    let bodies: BodyReader
    /// The time after which a request is answered 504.
    let deadline: Duration
    let live: LiveHub
    let operations: [String: Route]
    let now: @Sendable () -> Timestamp

    /// The routes of `pages`, of the files that they load, and of `/`, which leads to them.
    func serve(_ pages: [PageRoute]) -> [HTTPRoute] {
        var routes = pages.map { page in
            HTTPRoute(page.method, prefix + page.path, .clients) { request, context in
                await respond(to: request, context, by: page)
            }
        }
        routes.append(HTTPRoute(.get, prefix + "/assets/{name}", .clients, asset))
        routes.append(
            HTTPRoute(.get, prefix + "/**", .clients) { request, context in
                await respond(to: request, context, by: PageRoute(.get, "", .anyone) { _ in throw Self.unknown })
            })
        routes.append(HTTPRoute(.get, "/", .clients) { _, _ in redirect(to: "") })
        return routes
    }

    private static let unknown = AppError(.notFound, "There is no such page.")

    private func respond(to request: Request, _ context: AppRequestContext, by page: PageRoute) async -> Response {
        var visitor = Visitor(reader: reader(of: request, nil))
        do {
            if let answer = choice(request) { return answer }
            visitor.caller = try await authenticator.visitor(of: request)
            context.log["user"] = visitor.caller.map { "\($0.user.id)" }
            let known = visitor
            guard let answer = try await withDeadline(deadline, { try await handle(request, context, page, known) })
            else { throw AppError(.timeout, "This took too long. Ask for less, or again later.") }
            visitor.mark = answer.mark
            return try response(to: answer.page, request, visitor)
        } catch {
            return failure(error, request, context, visitor)
        }
    }

    /// Who looks at a page.
    private struct Visitor: Sendable {
        var caller: Caller?
        let reader: Reader
        /// Where the stream of a live page begins.
        var mark: LogMark?
    }

    private func handle(
        _ request: Request, _ context: AppRequestContext, _ page: PageRoute, _ visitor: Visitor
    ) async throws -> (page: PageAnswer, mark: LogMark?) {
        if page.access != .anyone {
            guard let caller = visitor.caller else {
                guard page.method == .get else { throw Authenticator.unauthenticated }
                return (.redirect("/sign-in?next=\(target(of: request).percentEncoded)"), nil)
            }
            try Authenticator.require(page.access, of: caller)
        }
        var (form, caller): ([FormField], Caller?) = ([], visitor.caller)
        if page.method == .post {
            form = try await bodies.withBody(of: request, context: context, Self.form)
            let token = form.last { $0.name == "_token" }?.value ?? ""
            guard formKeys(of: request, visitor.caller, page).contains(where: { $0.accepts(token) }) else {
                throw HTTPError(.init(code: 419, reasonPhrase: "Page Expired"), message: "This page has expired.")
            }
            // A body may take long to arrive. A caller who lost a right meanwhile is refused.
            caller = try await authenticator.visitor(of: request)
            if page.access != .anyone {
                guard let caller else { throw Authenticator.unauthenticated }
                try Authenticator.require(page.access, of: caller)
            }
        }
        // The mark is older than what the page reads, so that the stream has all that the page does not show.
        let mark = page.isLive ? try await live.mark() : nil
        let answer = try await page.handle(
            PageRequest(
                http: request, context: context, caller: caller, reader: visitor.reader, form: form,
                now: now(), operations: operations, prefix: prefix))
        return (answer, mark)
    }

    private static let longestForm = 64 << 10
    private static let mostFields = 200

    /// The fields of a form. They take much more memory than its bytes, so both are limited.
    private static func form(_ bytes: UnsafeMutableRawBufferPointer) throws -> [FormField] {
        guard bytes.count <= longestForm, bytes.count(where: { $0 == UInt8(ascii: "&") }) < mostFields else {
            throw AppError(.tooLarge, "The form is too large.")
        }
        return FormField.parse(Array(bytes))
    }

    /// What may prove a form. A browser that follows a link of another site shows no session, so its form to sign in
    /// proves itself by the browser alone, also where a session is there when it is sent.
    private func formKeys(of request: Request, _ caller: Caller?, _ page: PageRoute) -> [FormKey] {
        let own = caller.map { [$0.formKey] } ?? []
        let browser = caller == nil || page.access == .anyone ? [formKey(of: request, nil)] : []
        return (own + browser).compactMap(\.self)
    }

    /// What proves that a form comes from a page of this caller, or of this browser.
    private func formKey(of request: Request, _ caller: Caller?) -> FormKey? {
        if let caller { return caller.formKey }
        return authenticator.pageCookie.formSecret(of: request).map { FormKey(secret: $0) }
    }

    /// The path below the prefix, and the query.
    private func target(of request: Request) -> String {
        let path = request.uri.path.dropFirst(prefix.count)
        return String(path) + (request.uri.query.map { "?\($0)" } ?? "")
    }
}

extension PageServer {
    private static let languageCookie = "codexflow_language"
    private static let zoneCookie = "codexflow_timezone"

    /// The reader that the cookies and the browser name.
    private func reader(of request: Request, _ caller: Caller?) -> Reader {
        let cookies = request.cookies
        let language =
            cookies[Self.languageCookie].flatMap { Language(rawValue: $0.value) }
            ?? Language(preferredBy: request.headers[.acceptLanguage])
        let zone = cookies[Self.zoneCookie]?.value.removingPercentEncoding ?? "UTC"
        return Reader(language, zoneName: zone, now: now())
    }

    /// Keeps a chosen language or zone in a cookie, and leads to the same page without the choice.
    private func choice(_ request: Request) -> Response? {
        let fields = request.queryFields
        let others = others(of: request)
        guard request.method == .get, others.count < fields.count else { return nil }
        let query = others.map(\.encoded).joined(separator: "&")
        let path = request.uri.path.dropFirst(prefix.count)
        var response = redirect(to: query.isEmpty ? String(path) : "\(path)?\(query)")
        for (field, cookie) in Self.choices {
            guard let value = fields.last(where: { $0.name == field })?.value, Self.isKnown(value, field) else {
                continue
            }
            response.setCookie(
                Cookie(
                    name: cookie, value: value.percentEncoded, maxAge: 31_536_000, path: "/", secure: false,
                    httpOnly: true, sameSite: .lax))
        }
        return response
    }

    private static let choices = [("language", languageCookie), ("timezone", zoneCookie)]

    private static func isKnown(_ value: String, _ field: String) -> Bool {
        field == "language" ? Language(rawValue: value) != nil : Reader.isZone(value)
    }

    /// The fields of the query that choose neither language nor zone.
    private func others(of request: Request) -> [FormField] {
        request.queryFields.filter { field in !Self.choices.contains { $0.0 == field.name } }
    }

    private func redirect(to path: String) -> Response { Response(redirectingTo: prefix + path) }

    private func asset(_ request: Request, _ context: AppRequestContext) async throws -> Response {
        guard let asset = resources.assets[context.parameters.get("name") ?? ""] else { throw Self.unknown }
        var answer = APIResponse(content: .bytes(asset.bytes, type: asset.type))
        let isNamed = request.queryFields.contains { $0.name == "v" && $0.value == asset.version }
        answer.headers[.cacheControl] = isNamed ? "public, max-age=31536000, immutable" : "no-cache"
        return answer.response(to: request, vary: [])
    }

    private func response(to answer: PageAnswer, _ request: Request, _ visitor: Visitor) throws -> Response {
        switch answer {
        case .redirect(let path): redirect(to: path)
        case .response(let response): response
        case .page(let template, let values, let status):
            try html(template, values, status: status, request, visitor)
        }
    }

    /// A page that says what went wrong, and what to do.
    private func failure(
        _ error: any Error, _ request: Request, _ context: AppRequestContext, _ visitor: Visitor
    ) -> Response {
        let failure = Failure(error, path: request.uri.path, requestID: context.requestID)
        failure.report(error, to: context.logger)
        // The API's own words are English, and say more than the page's only of what was sent.
        let addsMore = [400, 409, 422].contains(failure.status.code) && visitor.reader.language == .english
        let values: JSON = [
            "status": .integer(failure.status.code), "request_id": .string(failure.requestID),
            "explanation": .string("error_\(failure.status.code)"),
            "message": addsMore ? .string(failure.message) : .null,
            // It shows no figures.
            "as_of": .null,
        ]
        let page = try? html("error", values, status: failure.status, request, visitor)
        var response = page ?? Response(status: .internalServerError)
        response.headers.append(contentsOf: failure.headers)
        return response
    }

    private func html(
        _ template: String, _ values: JSON, status: HTTPResponse.Status, _ request: Request, _ visitor: Visitor
    ) throws -> Response {
        let pageCookie = authenticator.pageCookie
        let newSecret =
            visitor.caller == nil && pageCookie.formSecret(of: request) == nil
            ? FormKey.randomSecret() : nil
        let key = newSecret.map { FormKey(secret: $0) } ?? formKey(of: request, visitor.caller)
        let shell = PageShell(
            prefix: prefix, target: target(of: request), query: others(of: request), caller: visitor.caller,
            mark: visitor.mark, reader: visitor.reader,
            formToken: key?.token() ?? "", assets: resources.assets)
        guard let texts = resources.texts[visitor.reader.language],
            let html = resources.templates.render(
                PageRoot(
                    values: View(
                        shell.json.merging(values), for: PageTone(reader: visitor.reader, texts: texts))),
                withTemplate: template)
        else { throw AppError(.internal, "There is no template \(template).") }
        var answer = APIResponse(status: status, content: .text(html, type: "text/html; charset=utf-8"))
        answer.headers[.cacheControl] = "no-store"
        answer.headers[.contentLanguage] = visitor.reader.language.rawValue
        answer.headers[.contentSecurityPolicy] =
            "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'"
        var response = answer.response(to: request, vary: [.cookie, .acceptLanguage])
        if let newSecret { response.setCookie(pageCookie.keeping(formSecret: newSecret, for: request)) }
        return response
    }
}

/// What every page has around its own values.
struct PageShell {
    let prefix: String
    /// The page's own path below the prefix, and its query.
    let target: String
    /// The query without a choice of language or zone.
    let query: [FormField]
    let caller: Caller?
    /// Where the stream begins that reports changes of the page; `nil` on a page that does not change by itself.
    let mark: LogMark?
    let reader: Reader
    let formToken: String
    let assets: [String: PageResources.Asset]

    /// The pages of the menu: path below the prefix, and the name of the title's text.
    private static let customerMenu = [
        ("/overview", "overview_title"), ("/logs", "logs_title"), ("/key", "key_title"),
    ]
    private static let operatorMenu = [
        ("/operator", "operator_title"), ("/operator/users", "users_title"), ("/operator/logs", "all_logs_title"),
        ("/operator/plans", "plans_title"), ("/operator/requests", "requests_title"),
        ("/operator/quarantine", "quarantine_title"), ("/operator/health", "health_title"),
        ("/operator/audit", "audit_title"),
    ]

    /// Members for the template `layout`. A page that has its own `as_of` or `complete_through` puts it in their place.
    var json: JSON {
        let path = String(target.prefix { $0 != "?" })
        let others = query.map(\.encoded) + ["language=\(reader.language.other.rawValue)"]
        return [
            "prefix": .string(prefix), "language": .string(reader.language.rawValue),
            "other_language": .string(reader.language.other.rawValue), "form_token": .string(formToken),
            "zone": .string(reader.zoneName), "now": .string(reader.now.rfc3339), "path": .string(prefix + path),
            "query": .array(query.map { ["name": .string($0.name), "value": .string($0.value ?? "")] }),
            "other_url": .string("\(prefix + path)?\(others.joined(separator: "&"))"),
            "style_url": url("pages.css"), "script_url": url("pages.js"), "icon_url": url("icon.svg"),
            "chart_url": url(PageResources.chartLibrary),
            "viewer": caller.map { caller in
                [
                    "id": .integer(caller.user.id), "name": .string(caller.user.name),
                    "email": .string(caller.user.email), "is_admin": .bool(caller.user.isAdmin),
                    "can_sign_out": .bool(caller.proof != .session),
                ]
            } ?? .null,
            "as_of": caller == nil ? .null : .string(reader.now.rfc3339), "complete_through": .null,
            "stream_url": mark == nil ? .null : caller.map { .string(Self.stream(of: $0, path)) } ?? .null,
            "stream_mark": mark.map { .string($0.text) } ?? .null,
            "menus": caller.map { menus($0, path) } ?? [],
        ]
    }

    /// What reports changes of a page: the usage of all users for an operator's page, else the caller's own.
    private static func stream(of caller: Caller, _ path: String) -> String {
        path.hasPrefix("/operator") ? "/api/v1/stream" : "/api/v1/stream?user_id=\(caller.user.id)"
    }

    private func menus(_ caller: Caller, _ path: String) -> JSON {
        let own = menu("menu_own", Self.customerMenu, path)
        return caller.user.isAdmin ? [menu("menu_operator", Self.operatorMenu, path), own] : [own]
    }

    private func menu(_ title: String, _ pages: [(path: String, title: String)], _ path: String) -> JSON {
        // Of two pages whose path begins the same, the longer one is the current page.
        let current = pages.map(\.path).filter { path == $0 || path.hasPrefix($0 + "/") }.max { $0.count < $1.count }
        return [
            "title": .string(title),
            "pages": .array(
                pages.map { page in
                    [
                        "url": .string(prefix + page.path), "title": .string(page.title),
                        "is_current": .bool(page.path == current),
                    ]
                }),
        ]
    }

    private func url(_ name: String) -> JSON {
        assets[name].map { .string("\(prefix)/assets/\(name)?v=\($0.version)") } ?? .null
    }
}

extension FormField {
    /// The field as a part of a query.
    fileprivate var encoded: String { "\(name.percentEncoded)=\((value ?? "").percentEncoded)" }
}
