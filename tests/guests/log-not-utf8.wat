;; Logs what is no UTF-8.
;; expect: utf-8
(data (i32.const 24576) "\ff\fe")
(func $on_null (param $row i32) (call $log (i32.const 2) (global.get $scratch) (i32.const 2)))
