internal import CSimdjson

/// A member of an event that is read. Others (prompt, answer, price map) are skipped.
///
/// A parent stands before its children.
enum Field: Int, CaseIterable {
    // Both shapes
    case status, model, error, errorMessage, metadata
    // LiteLLM
    case id, callID, callType, stream, cacheHit, provider, modelGroup, endUser, tags
    case startTime, endTime, firstTokenTime, responseCost, promptTokens, completionTokens
    case errorText, errorInformation, errorCode, errorClass, errorDescription
    case usageEstimated
    case keyHash, keyUserID, keyMetadata, keyLaravelUserID
    case proxyUsage, proxyInputDetails, proxyCachedTokens, proxyCacheRead, proxyOutputDetails, proxyReasoningTokens
    // Documented
    case eventID, userID, metadataUserID, laravelUserID, cost, responseTime
    case usage, usagePrompt, usageCompletion, usageInput, usageOutput
    case usageInputDetails, usageCachedTokens, usageCacheRead, usageOutputDetails, usageReasoningTokens
    case response, responseModel, responseCostUSD, responseSeconds, responseError, responseErrorMessage
    case rootErrorCode, rootStatusCode, rootCode, errorOwnCode, errorItsCode, errorStatusCode, errorStatus
    case responseErrorCode, responseStatusCode, responseCode
    case responseErrorOwnCode, responseErrorItsCode, responseErrorStatusCode, responseErrorStatus
    case nested, nestedPrompt, nestedCompletion, nestedInput, nestedOutput
    case nestedInputDetails, nestedCachedTokens, nestedCacheRead, nestedOutputDetails, nestedReasoningTokens

    /// The member's name, and the member that contains it.
    var member: (parent: Field?, name: String) {
        switch self {
        case .status: (nil, "status")
        case .model: (nil, "model")
        case .error: (nil, "error")
        case .errorMessage: (.error, "message")
        case .metadata: (nil, "metadata")
        case .id: (nil, "id")
        case .callID: (nil, "litellm_call_id")
        case .callType: (nil, "call_type")
        case .stream: (nil, "stream")
        case .cacheHit: (nil, "cache_hit")
        case .provider: (nil, "custom_llm_provider")
        case .modelGroup: (nil, "model_group")
        case .endUser: (nil, "end_user")
        case .tags: (nil, "request_tags")
        case .startTime: (nil, "startTime")
        case .endTime: (nil, "endTime")
        case .firstTokenTime: (nil, "completionStartTime")
        case .responseCost: (nil, "response_cost")
        case .promptTokens: (nil, "prompt_tokens")
        case .completionTokens: (nil, "completion_tokens")
        case .errorText: (nil, "error_str")
        case .errorInformation: (nil, "error_information")
        case .errorCode: (.errorInformation, "error_code")
        case .errorClass: (.errorInformation, "error_class")
        case .errorDescription: (.errorInformation, "error_message")
        case .usageEstimated: (nil, "codexflow_usage_estimated")
        case .keyHash: (.metadata, "user_api_key_hash")
        case .keyUserID: (.metadata, "user_api_key_user_id")
        case .keyMetadata: (.metadata, "user_api_key_auth_metadata")
        case .keyLaravelUserID: (.keyMetadata, "laravel_user_id")
        case .proxyUsage: (.metadata, "usage_object")
        case .proxyInputDetails: (.proxyUsage, "prompt_tokens_details")
        case .proxyCachedTokens: (.proxyInputDetails, "cached_tokens")
        case .proxyCacheRead: (.proxyUsage, "cache_read_input_tokens")
        case .proxyOutputDetails: (.proxyUsage, "completion_tokens_details")
        case .proxyReasoningTokens: (.proxyOutputDetails, "reasoning_tokens")
        case .eventID: (nil, "event_id")
        case .userID: (nil, "user_id")
        case .metadataUserID: (.metadata, "user_id")
        case .laravelUserID: (.metadata, "laravel_user_id")
        case .cost: (nil, "cost")
        case .responseTime: (nil, "response_time")
        case .usage: (nil, "usage")
        case .usagePrompt: (.usage, "prompt_tokens")
        case .usageCompletion: (.usage, "completion_tokens")
        case .usageInput: (.usage, "input_tokens")
        case .usageOutput: (.usage, "output_tokens")
        case .usageInputDetails: (.usage, "prompt_tokens_details")
        case .usageCachedTokens: (.usageInputDetails, "cached_tokens")
        case .usageCacheRead: (.usage, "cache_read_input_tokens")
        case .usageOutputDetails: (.usage, "completion_tokens_details")
        case .usageReasoningTokens: (.usageOutputDetails, "reasoning_tokens")
        case .response: (nil, "response")
        case .responseModel: (.response, "model")
        case .responseCostUSD: (.response, "cost")
        case .responseSeconds: (.response, "response_time")
        case .responseError: (.response, "error")
        case .responseErrorMessage: (.responseError, "message")
        case .rootErrorCode: (nil, "error_code")
        case .rootStatusCode: (nil, "status_code")
        case .rootCode: (nil, "code")
        case .errorOwnCode: (.error, "code")
        case .errorItsCode: (.error, "error_code")
        case .errorStatusCode: (.error, "status_code")
        case .errorStatus: (.error, "status")
        case .responseErrorCode: (.response, "error_code")
        case .responseStatusCode: (.response, "status_code")
        case .responseCode: (.response, "code")
        case .responseErrorOwnCode: (.responseError, "code")
        case .responseErrorItsCode: (.responseError, "error_code")
        case .responseErrorStatusCode: (.responseError, "status_code")
        case .responseErrorStatus: (.responseError, "status")
        case .nested: (.response, "usage")
        case .nestedPrompt: (.nested, "prompt_tokens")
        case .nestedCompletion: (.nested, "completion_tokens")
        case .nestedInput: (.nested, "input_tokens")
        case .nestedOutput: (.nested, "output_tokens")
        case .nestedInputDetails: (.nested, "prompt_tokens_details")
        case .nestedCachedTokens: (.nestedInputDetails, "cached_tokens")
        case .nestedCacheRead: (.nested, "cache_read_input_tokens")
        case .nestedOutputDetails: (.nested, "completion_tokens_details")
        case .nestedReasoningTokens: (.nestedOutputDetails, "reasoning_tokens")
        }
    }
}

/// Reads the ``Field``s of one JSON object after another, with simdjson's on-demand parser.
/// Its memory grows with the largest object. It is used by one thread at a time.
final class EventReader {
    /// Why an object cannot be read.
    enum Failure: Error {
        /// Not UTF-8, or a control character inside a string.
        case invalidText
        case invalidJSON
    }

    private let reader = csimdjson_reader_create()
    private let values = UnsafeMutableBufferPointer<csimdjson_value>.allocate(capacity: Field.allCases.count)

    deinit {
        values.deallocate()
        csimdjson_reader_destroy(reader)
    }

    /// The fields of the object `text`, which live until the next read.
    ///
    /// `readable` is the number of bytes that may be read from the begin of `text`. Those after `text` serve as
    /// padding.
    ///
    /// - Throws: ``Failure``.
    func read(_ text: UnsafeRawBufferPointer, readable: Int) throws(Failure) -> EventFields {
        let start = text.assumingMemoryBound(to: CChar.self).baseAddress
        switch csimdjson_read(reader, Self.schema.pointer, start, text.count, readable, values.baseAddress) {
        case CSIMDJSON_OK: return EventFields(values: UnsafeBufferPointer(values))
        case CSIMDJSON_INVALID_TEXT: throw .invalidText
        default: throw .invalidJSON
        }
    }

    /// Lives as long as the process.
    private static let schema = Schema()

    private struct Schema: @unchecked Sendable {
        /// Immutable, as the header promises.
        let pointer: OpaquePointer?

        init() {
            let members = Field.allCases.map(\.member)
            let names = members.map { member in
                let name = UnsafeMutableBufferPointer<CChar>.allocate(capacity: member.name.utf8.count + 1)
                _ = name.initialize(from: member.name.utf8.map { CChar(bitPattern: $0) } + [0])
                return name
            }
            defer { names.forEach { $0.deallocate() } }
            let fields = zip(members, names).map { member, name in
                csimdjson_field(name: name.baseAddress, parent: Int32(member.parent?.rawValue ?? -1))
            }
            pointer = csimdjson_schema_create(fields, fields.count)
        }
    }
}

/// The fields that one object has.
struct EventFields {
    fileprivate let values: UnsafeBufferPointer<csimdjson_value>

    subscript(field: Field) -> JSONValue {
        let value = values[field.rawValue]
        return JSONValue(bytes: UnsafeRawBufferPointer(start: value.start, count: value.length))
    }

    /// The value of the first of `fields` that is stated.
    func first(_ fields: Field...) -> JSONValue {
        fields.lazy.map { self[$0] }.first { $0.isStated } ?? .absent
    }
}
