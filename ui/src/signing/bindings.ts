// Stands in for the file that Tauri Specta generates for the signing window, and has its shape.

import { invoke as __TAURI_INVOKE } from "@tauri-apps/api/core";

/** Commands */
export const commands = {
	signIntent: () => typedError<Asked, ErrorView>(__TAURI_INVOKE("sign_intent")),
	signPreview: () => typedError<Preview, ErrorView>(__TAURI_INVOKE("sign_preview")),
	signConfirm: (digest: string, password: string | null) => typedError<null, ErrorView>(__TAURI_INVOKE("sign_confirm", { digest, password })),
	signCancel: () => typedError<null, ErrorView>(__TAURI_INVOKE("sign_cancel")),
	signFinish: () => typedError<null, ErrorView>(__TAURI_INVOKE("sign_finish")),
	walletCreate: (password: string) => typedError<null, ErrorView>(__TAURI_INVOKE("wallet_create", { password })),
	walletImport: (words: string, password: string) => typedError<null, ErrorView>(__TAURI_INVOKE("wallet_import", { words, password })),
	walletImportV3: (file: string, filePassword: string, password: string) => typedError<null, ErrorView>(__TAURI_INVOKE("wallet_import_v3", { file, filePassword, password })),
	walletUnlock: (password: string) => typedError<null, ErrorView>(__TAURI_INVOKE("wallet_unlock", { password })),
	walletChangePassword: (old: string, fresh: string) => typedError<null, ErrorView>(__TAURI_INVOKE("wallet_change_password", { old, fresh })),
	walletExport: (password: string, filePassword: string) => typedError<string | null, ErrorView>(__TAURI_INVOKE("wallet_export", { password, filePassword })),
	wordsShow: (password: string) => typedError<string[], ErrorView>(__TAURI_INVOKE("words_show", { password })),
	wordsAsk: (password: string | null) => typedError<number[], ErrorView>(__TAURI_INVOKE("words_ask", { password })),
	wordsCheck: (words: string[]) => typedError<boolean, ErrorView>(__TAURI_INVOKE("words_check", { words })),
};

/* Types */
/**  One address of this node. */
export type Account = {
	role: Role,
	address: string,
	/**  How it follows from the words; null for a key that follows from none. */
	path: string | null,
};

/**  What the signing window is open for. */
export type Asked = {
	intent: Intent,
	wallet: WalletState,
	/**  The words were asked back. */
	backedUp: boolean,
	accounts: Account[],
};

/**  What is sent. */
export type Asset = "token" | "coin";

/**  One parameter and its proposed value. */
export type Change = {
	what: string,
	value: string,
};

/**  An error as a screen needs it: `code` to branch on, `message` to show, `fix` as the next step. */
export type ErrorView = {
	/**  Stable, snake_case; the only part that the page may compare. */
	code: string,
	/**  One sentence that says what went wrong. */
	message: string,
	/**  One sentence that says what to do next. */
	fix: string | null,
};

/**  An act that needs the wallet. Amounts are decimal digits of base units. */
export type Intent = { kind: "create" } | { kind: "import" } | { kind: "unlock" } | { kind: "show_words" } | { kind: "confirm_words" } | { kind: "export" } | { kind: "change_password" } | { kind: "send"; to: string; asset: Asset; amount: string } | { kind: "deposit"; amount: string } | { kind: "withdraw"; amount: string } | { kind: "grant"; amount: string; days: number } | { kind: "end_signer" } | { kind: "register_payee" } | { kind: "delegate"; to: string } | { kind: "wrap"; amount: string } | { kind: "unwrap"; amount: string } | { kind: "vote"; id: string; support: Support } | { kind: "propose"; title: string; description: string; changes: Change[] } | { kind: "faucet" } | { kind: "speed_up"; id: string } | { kind: "cancel"; id: string };

/**  An amount that leaves. */
export type Leaves = {
	amount: string,
	symbol: string,
};

/**  One field of a decoded call. */
export type NamedValue = {
	name: string,
	value: string,
};

/**  What an intent would do, as it is shown before it is signed. */
export type Preview = {
	/**  Binds all of it; signing takes this and nothing else. */
	digest: string,
	title: string,
	to: string,
	known: boolean,
	leaves: Leaves[],
	feeMax: string,
	coinAfter: string,
	tokenAfter: string,
	fields: NamedValue[],
	simulation: Simulation,
	reason: string | null,
	network: PreviewNetwork,
};

/**  The network of a preview. */
export type PreviewNetwork = {
	title: string,
	/**  Its amounts are worth nothing. */
	test: boolean,
	symbol: string,
	coin: string,
};

/**  Whose key an address belongs to. */
export type Role = "wallet" | "spend" | "operator" | "session";

/**  What a simulation of a call said. */
export type Simulation = "ok" | "reverts";

/**  A vote. */
export type Support = "against" | "for" | "abstain";

/**  Whether there is a wallet, and whether it is open. */
export type WalletState = "none" | "locked" | "unlocked";

/* Tauri Specta runtime */
async function typedError<T, E>(result: Promise<T>): Promise<{ status: "ok"; data: T } | { status: "error"; error: E }> {
    try {
        return { status: "ok", data: await result };
    } catch (e) {
        if (e instanceof Error) throw e;
        return { status: "error", error: e as any };
    }
}
