//! Names of the app-server's protocol in codex 0.106, 0.140, 0.155 and 0.169: those of the schemas
//! that it generates, and those that it has besides.

use std::collections::HashSet;
use std::sync::LazyLock;

/// Methods that clients call, as the child lists them.
const METHODS: &str = "
    account/bedrock/checkGovCloudRequirements account/bedrock/discover account/bedrock/setup
    account/gatewayOAuth/cancel account/gatewayOAuth/login account/gatewayOAuth/read
    account/gcp/setup account/login/cancel account/login/start account/logout
    account/rateLimitResetCredit/consume account/rateLimits/read account/read
    account/securitySetup/read account/sendAddCreditsNudgeEmail account/usage/read
    account/workspaceMessages/read accountSession/list accountSession/switch
    addConversationListener app/installed app/list app/read archiveConversation
    cancelLoginChatGpt collaborationMode/list command/exec command/exec/resize
    command/exec/terminate command/exec/write config/batchWrite config/mcpServer/reload
    config/read config/value/write configRequirements/read environment/add environment/info
    environment/status execOneOffCommand experimentalFeature/enablement/set
    experimentalFeature/list externalAgentConfig/detect externalAgentConfig/import
    externalAgentConfig/import/readHistories externalAgentConfig/import/recordHistory
    feedback/save feedback/upload forkConversation fs/copy fs/createDirectory fs/getMetadata
    fs/readDirectory fs/readFile fs/remove fs/unwatch fs/watch fs/writeFile fuzzyFileSearch
    fuzzyFileSearch/sessionStart fuzzyFileSearch/sessionStop fuzzyFileSearch/sessionUpdate
    getAuthStatus getConversationSummary getUserAgent getUserSavedConfig gitDiffToRemote
    hooks/list initialize interruptConversation listConversations loginApiKey loginChatGpt
    logoutChatGpt marketplace/add marketplace/remove marketplace/upgrade
    mcpServer/event/stream/start mcpServer/event/stream/stop mcpServer/oauth/login
    mcpServer/resource/read mcpServer/tool/call mcpServerStatus/list memory/reset memory/status
    mock/experimentalMethod model/list modelProvider/capabilities/read
    modelProvider/config/write modelProvider/list newConversation permissionProfile/list
    plugin/install plugin/installed plugin/list plugin/read plugin/reconcile plugin/search
    plugin/share/checkout plugin/share/delete plugin/share/list plugin/share/save
    plugin/share/updateTargets plugin/skill/read plugin/uninstall process/kill process/resizePty
    process/spawn process/writeStdin project/create project/delete project/import project/list
    project/move project/read project/update remoteControl/client/list
    remoteControl/client/revoke remoteControl/disable remoteControl/enable
    remoteControl/pairing/start remoteControl/pairing/status remoteControl/status/read
    removeConversationListener resumeConversation review/start rollout/compress sendUserMessage
    sendUserTurn server/diagnostics setDefaultModel skills/config/write skills/extraRoots/set
    skills/list skills/remote/export skills/remote/list thread/approveGuardianDeniedAction
    thread/archive thread/attachment/add thread/attachment/list thread/attachment/remove
    thread/attachmentOwner/list thread/backgroundTerminals/clean thread/backgroundTerminals/list
    thread/backgroundTerminals/terminate thread/compact/start thread/decrement_elicitation
    thread/delete thread/fork thread/goal/clear thread/goal/get thread/goal/set
    thread/guardianReview thread/increment_elicitation thread/inject_items thread/items/list
    thread/items/read thread/list thread/loaded/list thread/memory/read thread/memoryMode/set
    thread/metadata/update thread/name/set thread/prediction/request thread/prepareApprovedPlan
    thread/queue/add thread/queue/delete thread/queue/list thread/queue/reorder
    thread/queue/start thread/queue/update thread/read thread/readState/update
    thread/realtime/appendAudio thread/realtime/appendSpeech thread/realtime/appendText
    thread/realtime/listVoices thread/realtime/start thread/realtime/stop thread/resume
    thread/revert thread/rollback thread/sample thread/sample/cancel thread/search
    thread/searchOccurrences thread/section/move thread/settings/update thread/shellCommand
    thread/start thread/timeline/list thread/turns/items/list thread/turns/list thread/unarchive
    thread/unsubscribe threadSection/create threadSection/delete threadSection/list
    threadSection/update turn/interrupt turn/settings/update turn/start turn/steer userInfo
    userVerification/cancel userVerification/delete userVerification/enroll
    userVerification/status userVerification/verify windowsSandbox/readiness
    windowsSandbox/setupStart
";

/// Notifications. Those with the prefix `codex/event/` are read by nobody.
const NOTIFICATIONS: &str = "
    account/gatewayOAuth/changed account/login/completed account/rateLimits/updated
    account/updated app/list/updated autoApprovalReview/strictReviewRequired
    command/exec/outputDelta configWarning deprecationNotice error
    externalAgentConfig/import/completed externalAgentConfig/import/progress fs/changed
    fuzzyFileSearch/sessionCompleted fuzzyFileSearch/sessionUpdated guardianWarning
    hook/completed hook/started item/agentMessage/delta item/autoApprovalReview/completed
    item/autoApprovalReview/started item/commandExecution/outputDelta
    item/commandExecution/terminalInteraction item/completed item/fileChange/outputDelta
    item/fileChange/patchUpdated item/mcpToolCall/progress item/plan/delta
    item/reasoning/summaryPartAdded item/reasoning/summaryTextDelta item/reasoning/textDelta
    item/started mcpServer/event/stream/notification mcpServer/oauthLogin/completed
    mcpServer/startupStatus/updated model/rerouted model/safetyBuffering/updated
    model/verification modelProvider/authRecoveryCompleted modelProvider/authRecoveryStarted
    process/exited process/outputDelta project/changed rawResponse/completed
    rawResponseItem/completed remoteControl/status/changed serverRequest/resolved skills/changed
    thread/archived thread/attachment/updated thread/closed thread/compacted thread/deleted
    thread/environment/connected thread/environment/disconnected thread/goal/cleared
    thread/goal/updated thread/name/updated thread/prediction/updated thread/project/updated
    thread/queue/changed thread/readState/changed thread/realtime/closed thread/realtime/error
    thread/realtime/item/completed thread/realtime/item/started
    thread/realtime/item/transcript/delta thread/realtime/itemAdded
    thread/realtime/outputAudio/delta thread/realtime/sdp thread/realtime/started
    thread/realtime/transcript/delta thread/realtime/transcript/done thread/reverted
    thread/section/changed thread/settings/updated thread/started thread/status/changed
    thread/tokenUsage/updated thread/unarchived turn/completed turn/diff/updated
    turn/moderationMetadata turn/plan/updated turn/started warning windows/worldWritableWarning
    windowsSandbox/setupCompleted
";

fn names(text: &'static str) -> HashSet<&'static str> {
    text.split_whitespace().collect()
}

static KNOWN_METHODS: LazyLock<HashSet<&str>> = LazyLock::new(|| names(METHODS));
static KNOWN_NOTIFICATIONS: LazyLock<HashSet<&str>> = LazyLock::new(|| names(NOTIFICATIONS));

/// Whether some codex that was known when this was built has the method.
pub fn is_known_method(method: &str) -> bool {
    KNOWN_METHODS.contains(method)
}

/// Whether some codex that was known when this was built sends the notification.
pub fn is_known_notification(method: &str) -> bool {
    KNOWN_NOTIFICATIONS.contains(method)
}
